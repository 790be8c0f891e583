"""What goes into a child and comes out of it, answers and errors."""

import array
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from jobs.errors import InfillError, InvalidImage
from jobs.sandbox.errors import ChildCrashed, FunctionFailed
from jobs.sandbox.pool import Sandbox
from jobs.sandbox.process import KEPT_BYTES
from tests.jobs.sandbox.children import LIMITS, MIB, RUN, WAIT_S, is_gone, linux, open_descriptors, run
from tests.jobs.sandbox.functions import SECRET

if TYPE_CHECKING:
    from typing_extensions import Buffer


def test_buffers_and_values_arrive_as_they_were_sent(sandbox: Sandbox) -> None:
    sent: list[Buffer] = [b"bytes", bytearray(3 * MIB), b"", memoryview(array.array("d", [1.5, 2.5])), os.urandom(MIB)]
    value = {"text": "\u00e4\n\U0001f600", "list": [1, 2.5, None, True]}
    answer = sandbox.call(sent, ["echo", value], WAIT_S)
    assert answer.value == value
    assert answer.buffers == [bytes(buffer) for buffer in sent]


def test_threads_share_the_children_and_each_gets_its_own_answer(sandbox: Sandbox) -> None:
    def ask(number: int) -> bool:
        payload = number.to_bytes(4) * 50_000
        answer = sandbox.call([payload], ["echo", number], WAIT_S)
        return answer.value == number and answer.buffers == [payload]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(160)))
        pids = set(threads.map(lambda _: run(sandbox, "pid"), range(80)))
    assert len(pids) <= 2


def test_an_answer_is_valid_when_its_child_has_died(single: Sandbox) -> None:
    answer = single.call([b"pixels" * 100_000], ["echo"], WAIT_S)
    with pytest.raises(ChildCrashed):
        run(single, "crash")
    assert answer.buffers == [b"pixels" * 100_000]


def test_nothing_of_one_call_lies_behind_the_input_of_the_next(single: Sandbox) -> None:
    run(single, "echo", buffers=[b"x" * 200_000])
    assert run(single, "leftovers", 300_000, buffers=[b"y" * 10]) == 0


def test_memory_of_a_large_picture_is_given_back(single: Sandbox) -> None:
    assert len(single.call([], ["inflate", 48 * MIB], WAIT_S).buffers[0]) == 48 * MIB
    assert run(single, "shared_bytes") <= KEPT_BYTES
    assert single.call([b"next"], ["echo"], WAIT_S).buffers == [b"next"]


def test_calls_leave_no_descriptors_behind(sandbox: Sandbox) -> None:
    def call(number: int) -> None:
        if number % 4:
            run(sandbox, "echo", buffers=[b"x"])
        else:
            with pytest.raises(FunctionFailed):
                run(sandbox, "fail")

    sandbox.wait_until_ready(WAIT_S)
    before = open_descriptors()
    for number in range(200):
        call(number)
    assert open_descriptors() == before


def test_a_sandbox_leaves_no_descriptors_behind() -> None:
    before = open_descriptors()
    with closing(Sandbox(RUN, 2, LIMITS)) as two:
        for _ in range(3):
            with pytest.raises(ChildCrashed):
                run(two, "crash")
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["crash"], "SIGSEGV"),
        (["leave"], "status 3"),
        (["open_files"], "status 1"),
        (["garbage", "\n"], "ValidationError"),
        (["garbage", "[]", 60_000], "BrokenMessage"),
        (["garbage", '{"value": null} {"value": null}\n'], "ValidationError"),
        (["garbage", '{"failure": "many words"}\n'], "ValidationError"),
        (["garbage", '{"error": {"code": "of nobody", "message": ""}}\n'], "unknown error"),
        (["garbage", '{"sizes": [-1]}\n'], "ValidationError"),
        (["garbage", '{"sizes": [67108865]}\n'], "beyond its output"),
        (["shrink"], "less than it named"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_child_that_crashes_or_lies_is_replaced(single: Sandbox, arguments: list[Any], why: str) -> None:
    pid = run(single, "pid")
    with pytest.raises(ChildCrashed, match=why):
        run(single, *arguments)
    assert is_gone(pid)
    assert run(single, "pid") != pid


def test_errors_meant_for_callers_are_raised_again(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidImage) as caught:
        run(sandbox, "invalid_image")
    assert type(caught.value) is InvalidImage and str(caught.value) == "image: cut short."


def test_every_error_of_the_tree_can_be_raised_again(sandbox: Sandbox) -> None:
    def tree(root: type[InfillError]) -> list[type[InfillError]]:
        return [root, *(error for child in root.__subclasses__() for error in tree(child))]

    for error in (error for error in tree(InfillError) if error.__module__ == InfillError.__module__):
        with pytest.raises(InfillError, match=r"^A sentence\.$") as caught:
            run(sandbox, "raise_error", error.__name__)
        assert caught.value.code == error.code


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fail", "ValueError"),
        ("system_exit", "SystemExit"),
        ("recurse", "RecursionError"),
        ("no_json", "TypeError"),
        ("no_unicode", "UnicodeEncodeError"),
        ("no_such_function", "KeyError"),
    ],
)
def test_other_errors_are_known_by_their_class_only_and_harm_nobody(
    single: Sandbox, name: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    pid = run(single, "pid")
    with caplog.at_level(logging.DEBUG), pytest.raises(FunctionFailed) as caught:
        run(single, name)
    assert caught.value.kind == kind and caught.value.__cause__ is None and caught.value.__context__ is None
    logged = [vars(record) for record in caplog.records]
    assert kind in str(logged) and SECRET not in str(logged) + str(caught.value)
    assert run(single, "pid") == pid


@pytest.mark.parametrize("arguments", ["x" * 70_000, {1, 2}, float("nan")])
def test_arguments_that_are_no_small_json_are_refused_here(single: Sandbox, arguments: Any) -> None:
    pid = run(single, "pid")
    with pytest.raises((TypeError, ValueError)):
        single.call([], arguments, WAIT_S)
    with pytest.raises(TypeError):
        single.call([memoryview(b"abcdef")[::2]], ["echo"], WAIT_S)
    assert run(single, "pid") == pid


@linux
def test_a_child_that_keeps_much_memory_is_replaced(single: Sandbox) -> None:
    pid = run(single, "pid")
    assert run(single, "keep", 1 * MIB) == pid
    assert run(single, "keep", 150 * MIB) == pid
    assert run(single, "pid") != pid
