"""Runs of pytest, each in a process of its own that is forked from this one once the slow modules are imported.

None of our own packages may act in such a process but those of the copy that it tests, so whatever this process has
imported of them is forgotten after the fork.
"""

import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

WARM = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
"""Imported before pytest could rewrite its assertions, which only plugins of pytest need."""
OURS = ("jobs", "app", "worker", "launch", "bench", "tests")
OPTIONS = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-seed=0", *WARM)
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "runs", "var")
POLL_S = 0.02
LIST_IMPORTED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sys.modules, sep="\\n")
"""


@dataclass(frozen=True)
class Trial:
    """What to run: ``tests``, with ``text`` in place of the file ``path`` where there is one."""

    tests: tuple[str, ...]
    limit_s: float
    path: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Result:
    passed: bool
    seconds: float
    output: str


@dataclass
class Running:
    index: int
    trial: Trial
    pid: int
    began: float
    original: str


class Copy:
    """A copy of the checkout in which one trial at a time runs."""

    def __init__(self, tree: Path, folder: Path) -> None:
        self.folder, self.log = folder, folder.with_suffix(".log")
        shutil.copytree(tree, folder, ignore=LEFT_OUT)
        self.running: Running | None = None

    def start(self, index: int, trial: Trial) -> None:
        original = ""
        if trial.path is not None:
            file = self.folder / trial.path
            original = file.read_text()
            file.write_text(trial.text)
        gc.freeze()  # what all forks share stays as it is, so it is never copied
        pid = os.fork()
        if pid == 0:
            _become_pytest(self.folder, ["--tb=no" if trial.path else "--tb=short", *trial.tests], self.log)
        self.running = Running(index, trial, pid, time.monotonic(), original)

    def poll(self) -> tuple[int, Result] | None:
        """The trial's index and result once it has ended."""
        if (running := self.running) is None:
            return None
        seconds = time.monotonic() - running.began
        late = seconds > running.trial.limit_s
        if late:
            self.kill()
        pid, status = os.waitpid(running.pid, 0 if late else os.WNOHANG)
        if pid == 0:
            return None
        self.running = None
        if running.trial.path is not None:
            (self.folder / running.trial.path).write_text(running.original)
        return running.index, Result(status == 0, seconds, self.log.read_text(errors="replace"))

    def kill(self) -> None:
        if self.running is not None:
            with suppress(ProcessLookupError):
                os.kill(self.running.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.killpg(self.running.pid, signal.SIGKILL)


def warm_up(tree: Path, tests: Iterable[str]) -> None:
    """Import here what these test files make Python import, but for our own: it is then there in every fork."""
    names = [test.removesuffix(".py").replace("/", ".") for test in tests]
    asked = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTED, *names], cwd=tree, stdout=subprocess.PIPE, text=True, check=False
    )
    for name in asked.stdout.split():
        if name.partition(".")[0] not in OURS and name not in sys.modules:
            with suppress(Exception):  # not everything in sys.modules has a file
                importlib.import_module(name)


def run_trials(copies: Sequence[Copy], trials: Sequence[Trial], ended: Callable[[int, Result], None]) -> list[Result]:
    """Run every trial, as many at once as there are copies; ``ended`` is called as each one ends."""
    results: dict[int, Result] = {}
    waiting = list(enumerate(trials))[::-1]
    try:
        while len(results) < len(trials):
            for copy in copies:
                if copy.running is None and waiting:
                    copy.start(*waiting.pop())
                if found := copy.poll():
                    index, results[index] = found
                    ended(*found)
            time.sleep(POLL_S)
    finally:
        for copy in copies:
            copy.kill()
    return [results[index] for index in range(len(trials))]


def _become_pytest(folder: Path, arguments: Sequence[str], log: Path) -> None:
    """Never returns: this process, just forked, tests what is in ``folder`` and ends with pytest's exit status."""
    status = 3
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.chdir(folder)
        os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True  # a file that is changed twice within a second looks unchanged to Python
        sys.path[:] = [str(folder), *sys.path]
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        import pytest

        status = int(pytest.main([*OPTIONS, *arguments]))
        sys.stdout.flush()
    except BaseException as error:
        os.write(2, repr(error).encode())
    finally:
        os._exit(status)
