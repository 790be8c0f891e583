"""A function that breaks a limit costs its limit and its child."""

import resource
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.sandbox.errors import FunctionFailed, LimitExceeded
from jobs.sandbox.pool import Sandbox
from tests.jobs.sandbox.children import LIMITS, RUN, WAIT_S, linux, run


def test_a_function_that_spins_costs_its_processor_time_and_little_more() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with closing(Sandbox(RUN, 1, replace(LIMITS, cpu_s=0.3))) as short:
        with pytest.raises(LimitExceeded) as caught:
            run(short, "spin")
        assert caught.value.limit == "cpu"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert 0.3 <= after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def test_processor_time_is_counted_for_each_call_alone() -> None:
    with closing(Sandbox(RUN, 1, replace(LIMITS, cpu_s=0.3))) as short:
        pids = {run(short, "work", 0.1) for _ in range(6)}
    assert len(pids) == 1


def test_a_function_that_sleeps_is_stopped() -> None:
    with closing(Sandbox(RUN, 1, replace(LIMITS, wall_s=0.3))) as short, pytest.raises(LimitExceeded) as caught:
        run(short, "sleep", 600)
    assert caught.value.limit == "wall"


@linux
@pytest.mark.parametrize("allocation", [(4 << 30, 1), (1000, 10_000_000)], ids=["one block", "many objects"])
def test_a_function_that_takes_too_much_memory_is_stopped(sandbox: Sandbox, allocation: tuple[int, int]) -> None:
    with pytest.raises(LimitExceeded) as caught:
        run(sandbox, "allocate", *allocation)
    assert caught.value.limit == "memory"


def test_output_beyond_its_limit_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(LimitExceeded) as caught:
        run(sandbox, "inflate", LIMITS.output_bytes + 1)
    assert caught.value.limit == "output"


def test_input_beyond_its_limit_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(LimitExceeded) as caught:
        run(sandbox, "echo", buffers=[bytes(LIMITS.input_bytes), b"1"])
    assert caught.value.limit == "input"


def test_input_and_output_up_to_their_limits_pass(sandbox: Sandbox) -> None:
    assert sandbox.call([bytes(LIMITS.input_bytes)], ["echo"], WAIT_S).buffers == [bytes(LIMITS.input_bytes)]
    assert len(sandbox.call([], ["inflate", LIMITS.output_bytes], WAIT_S).buffers[0]) == LIMITS.output_bytes


@pytest.mark.parametrize("arguments", [["write_file"], ["grow_memory_file", 1]])
def test_a_child_writes_no_files(sandbox: Sandbox, arguments: list[Any], tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(FunctionFailed) as caught:
        run(sandbox, *arguments, *([str(target)] if len(arguments) == 1 else []))
    assert caught.value.kind == "OSError"
    assert not target.exists() or not target.stat().st_size
