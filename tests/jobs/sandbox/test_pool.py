"""Children: their number, their surroundings and their end."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from jobs.sandbox.errors import Busy, ChildCrashed, Closed
from jobs.sandbox.pool import Sandbox
from jobs.sandbox.process import SETTINGS
from tests.jobs.sandbox.children import LIMITS, RUN, WAIT_S, is_gone, linux, open_descriptors, run, signed, until


def test_nobody_waits_longer_than_allowed_for_a_child(single: Sandbox, gate: Path, folder: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        busy = thread.submit(run, single, "wait_for", str(gate), str(folder))
        signed(folder)
        for wait_s in (-1, 0, 0.05):
            with pytest.raises(Busy):
                run(single, "pid", wait_s=wait_s)
        gate.touch()
        assert busy.result() == run(single, "pid")


def test_a_replacement_that_starts_keeps_nobody_waiting_while_another_child_is_free() -> None:
    with closing(Sandbox(RUN, 2, LIMITS)) as two:
        two.wait_until_ready(WAIT_S)
        for _ in range(3):
            with pytest.raises(ChildCrashed):
                run(two, "crash")
            assert run(two, "echo", 1, wait_s=0) == 1
            two.wait_until_ready(WAIT_S)


def test_a_child_that_died_idle_fails_no_call(single: Sandbox) -> None:
    pid = run(single, "pid")
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid))
    assert run(single, "pid") != pid


def test_a_function_that_cannot_be_loaded_is_known_at_the_start() -> None:
    with closing(Sandbox("tests.jobs.no_such_module:run", 2, LIMITS)) as broken:
        with pytest.raises(ChildCrashed, match="not ready"):
            broken.wait_until_ready(WAIT_S)
        with pytest.raises(Busy):
            broken.call([], None, 0)


def test_a_child_has_no_secrets_no_foreign_files_and_no_heavy_modules(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INFILL_REDIS_URL", "redis://:secret@127.0.0.1/0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with (tmp_path / "open").open("w") as file, closing(Sandbox(RUN, 1, LIMITS)) as later:
        os.set_inheritable(file.fileno(), True)
        found = run(later, "surroundings")
    assert set(found["environment"]) <= {"PATH", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "LC_CTYPE", *SETTINGS}
    assert file.name not in found["files"]
    assert found["session"] != os.getsid(0)
    assert not {"pydantic", "redis", "torch", "numpy", "jobs.schema"} & set(found["modules"])


@pytest.mark.parametrize("ignored", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_that_stop_a_service_do_not_stop_a_call(
    sandbox: Sandbox, ignored: signal.Signals, gate: Path, folder: Path
) -> None:
    with ThreadPoolExecutor(1) as thread:
        busy = thread.submit(run, sandbox, "wait_for", str(gate), str(folder))
        os.kill(signed(folder), ignored)
        gate.touch()
        assert busy.result() == signed(folder)


def test_closing_ends_idle_and_busy_children(folder: Path) -> None:
    two = Sandbox(RUN, 2, LIMITS)
    with ThreadPoolExecutor(1) as thread:
        busy = thread.submit(run, two, "spin", str(folder))
        pids = [signed(folder), run(two, "pid")]
        two.close()
        assert all(map(is_gone, pids))
        with pytest.raises(Closed):
            busy.result()
    with pytest.raises(Closed):
        run(two, "pid")


def test_closing_while_children_start_ends_them() -> None:
    before = open_descriptors()
    Sandbox(RUN, 2, LIMITS).close()
    assert open_descriptors() == before


PARENT = """
import sys, threading, time
from pathlib import Path
from jobs.sandbox.errors import Limits
from jobs.sandbox.pool import Sandbox
from jobs.sandbox.process import SETTINGS
sandbox = Sandbox("tests.jobs.sandbox.functions:run", 2, Limits(600, 600, 1 << 28, 1 << 20, 1 << 20))
threading.Thread(target=sandbox.call, args=([], ["spin", sys.argv[1]], 60), daemon=True).start()
while not any(Path(sys.argv[1]).iterdir()):
    time.sleep(0.01)
print(sandbox.call([], ["pid"], 60).value, flush=True)
time.sleep(600)
"""


@linux
def test_children_die_with_their_parent_even_in_the_middle_of_a_call(folder: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, folder], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    idle = int(parent.stdout.readline())
    busy = signed(folder)
    assert not is_gone(idle) and not is_gone(busy)
    parent.kill()
    parent.communicate()
    until(lambda: is_gone(idle) and is_gone(busy))


WITHOUT_MEMFD = """
import os
del os.memfd_create
from jobs.sandbox.errors import Limits
from jobs.sandbox.pool import Sandbox
from jobs.sandbox.process import SETTINGS
sandbox = Sandbox("tests.jobs.sandbox.functions:run", 1, Limits(20, 60, 1 << 28, 1 << 26, 1 << 26))
for size in (0, 1000, 40_000_000, 10):
    data = os.urandom(size)
    assert sandbox.call([data], ["echo"], 60).buffers == [data]
sandbox.close()
"""


def test_a_system_without_memory_files_uses_temporary_ones() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_MEMFD], check=True)
