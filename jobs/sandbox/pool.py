"""A pool of warm child processes that call one function within limits. Thread-safe; ``docs/design/sandbox.md``."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.sandbox import wire
from jobs.sandbox.errors import Busy, ChildCrashed, Closed, LimitExceeded, Limits, SandboxError
from jobs.sandbox.process import Answer, Process

if TYPE_CHECKING:
    from typing_extensions import Buffer

log = logging.getLogger("infill.sandbox")

START_S = 60.0
"""A child that has not loaded its function by then is taken for dead."""
LONGEST_PAUSE_S = 5.0
"""Between starts, where children do not come up; it doubles up to this."""


class Sandbox:
    """Keeps ``children`` processes that have loaded ``target`` and lends each to one call at a time.

    Returns at once; the children start meanwhile, and so does the replacement of any that broke a limit or died.

    Args:
        target: ``package.module:function``; see ``jobs.sandbox.child.Function``.
        children: how many calls run at the same time.
        limits: of each call.
    """

    def __init__(self, target: str, children: int, limits: Limits) -> None:
        self._target, self._children, self._limits = target, children, limits
        self._lock = threading.Lock()
        self._freed, self._lost, self._started = (threading.Condition(self._lock) for _ in range(3))
        self._idle = list[Process]()
        self._alive = set[Process]()
        """Starting, idle or in a call."""
        self._failure: str | None = None
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="sandbox", daemon=True)
        self._keeper.start()

    def call(self, buffers: Sequence["Buffer"], arguments: object, wait_s: float) -> Answer:
        """Call the function in a child. ``arguments``: JSON; ``wait_s``: for a child that is free.

        Raises what the function raised of jobs.errors; Busy, LimitExceeded, ChildCrashed, FunctionFailed, Closed. After
        all but Busy and Closed another try would end the same. TypeError, ValueError: what was given cannot be sent.
        """
        views = [wire.flat(buffer) for buffer in buffers]
        if sum(view.nbytes for view in views) > self._limits.input_bytes:
            raise LimitExceeded("input")
        process = self._take(wait_s)
        try:
            return process.call(views, arguments)
        except SandboxError as error:
            if self._closed:
                raise Closed from None
            log.warning("sandboxed call failed", extra={"where": self._target, "error": str(error)})
            raise
        finally:
            self._take_back(process)

    def wait_until_ready(self, within_s: float) -> None:
        """Wait until every child is warm. Raises ChildCrashed where one cannot start, Busy after ``within_s``."""
        with self._lock:
            if not self._started.wait_for(lambda: self._failure or self._is_complete(), within_s):
                raise Busy("the children have not all started")
            if self._failure:
                raise ChildCrashed(self._failure)

    def close(self) -> None:
        """End every child, in a call or not, and wait until they are gone."""
        with self._lock:
            self._closed = True
            alive, idle = list(self._alive), list(self._idle)
            self._idle.clear()
            for condition in (self._freed, self._lost):
                condition.notify_all()
        for process in alive:
            process.kill()
        for process in idle:
            process.end()
        self._keeper.join()
        for process in alive:
            process.wait()

    # ---- what callers' threads do

    def _take(self, wait_s: float) -> Process:
        """An idle child, the one last used first. One that died while it was idle has failed nobody."""
        deadline = time.monotonic() + wait_s
        while True:
            with self._lock:
                if not self._freed.wait_for(lambda: self._closed or self._idle, deadline - time.monotonic()):
                    raise Busy(f"no child was free within {wait_s:g} s")
                if self._closed:
                    raise Closed
                process = self._idle.pop()
            if process.alive:
                return process
            self._discard(process)

    def _take_back(self, process: Process) -> None:
        if not process.fit:
            self._discard(process)
            return
        with self._lock:
            if not self._closed:
                self._idle.append(process)
                self._freed.notify()
                return
        process.end()

    def _discard(self, process: Process) -> None:
        process.end()
        with self._lock:
            self._alive.discard(process)
            self._lost.notify()

    # ---- what the keeper's thread does

    def _keep(self) -> None:
        """Start what is missing, until closed. One thread for all: a child dies with the thread that started it."""
        pause_s = 0.0
        while missing := self._wait_for_loss(pause_s):
            failure = self._start(missing)
            pause_s = min(max(2 * pause_s, 0.1), LONGEST_PAUSE_S) if failure else 0.0
            with self._lock:
                self._failure = failure
                self._started.notify_all()

    def _wait_for_loss(self, pause_s: float) -> int:
        """How many children are missing; 0: closed."""
        with self._lock:
            self._lost.wait_for(lambda: self._closed, pause_s)
            self._lost.wait_for(lambda: self._closed or len(self._alive) < self._children)
            return 0 if self._closed else self._children - len(self._alive)

    def _start(self, count: int) -> str | None:
        """Start ``count`` children, all at the same time. Returns why one could not, for the log."""
        processes, failure = list[Process](), None
        try:
            for _ in range(count):
                processes.append(self._begin())
        except Exception as error:  # whatever it is, this thread has to live: its children do only as long
            failure = f"not started: {type(error).__name__}"
        for process in processes:
            try:
                process.wait_until_ready(START_S)
                self._take_back(process)
            except ChildCrashed as error:
                failure = str(error)
                self._discard(process)
        if failure and not self._closed:
            log.error("sandbox child cannot start", extra={"where": self._target, "error": failure})
        return failure

    def _begin(self) -> Process:
        process = Process(self._target, self._limits)
        with self._lock:
            self._alive.add(process)
            if self._closed:
                process.kill()
        return process

    def _is_complete(self) -> bool:
        return len(self._alive) == self._children and all(process.ready for process in self._alive)
