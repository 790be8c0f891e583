"""The running batch of tasks, free of Redis: tasks come in, move along turn by turn, and go out with an outcome."""

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from worker.engine import Engine
from worker.state import DenoiseState
from worker.task import Task

IDLE_WAIT_S = 0.02
"""How long a turn with nothing to step waits for a codec thread."""


class Session:
    """Moves tasks through open -> prepare -> steps -> finish -> close. ``turn`` is called by the engine's thread.

    Args:
        engine: steps the states.
        codec_threads: threads that decode uploads and encode PNGs beside it.
    """

    def __init__(self, engine: Engine, codec_threads: int) -> None:
        self.engine = engine
        self.codec = ThreadPoolExecutor(codec_threads, thread_name_prefix="codec")
        self.opening: dict[Task, Future[Any]] = {}
        self.running: list[Task] = []
        self.closing: dict[Task, Future[Any]] = {}

    def take(self, task: Task, image: bytes | None, mask: bytes | None) -> None:
        """Begin a task."""
        self.opening[task] = self.codec.submit(task.open, image, mask)

    def drop(self, task: Task) -> None:
        """Forget a task, whatever it is at; a codec thread busy with it finishes for nothing."""
        self.opening.pop(task, None)
        self.closing.pop(task, None)
        if task in self.running:
            self.running.remove(task)
        self.engine.leave(task.states)

    def turn(self) -> None:
        """Prepare what has been opened, take one step, finish what is stepped out, collect what has been closed."""
        if not self.running:
            wait([*self.opening.values(), *self.closing.values()], IDLE_WAIT_S, return_when=FIRST_COMPLETED)
        for task, future in _take_done(self.opening):
            self._prepare(task, future)
        self._note(self.engine.step())
        for task in [task for task in self.running if task.stepped_out]:
            self._finish(task)
        for task, future in _take_done(self.closing):
            task.outcome = future.exception() or future.result()  # type: ignore[assignment]

    def _prepare(self, task: Task, opened: Future[Any]) -> None:
        try:
            self.engine.join(task.prepare(opened.result()))
            self.running.append(task)
        except Exception as error:
            task.fail(error)

    def _note(self, batch: list[DenoiseState]) -> None:
        stepped = {id(state) for state in batch}
        for task in self.running:
            if any(id(state) in stepped for state in task.states):
                task.stopwatch.stepped(len(batch))

    def _finish(self, task: Task) -> None:
        self.running.remove(task)
        self.engine.leave(task.states)
        try:
            if error := task.failure():
                raise error
            self.closing[task] = self.codec.submit(task.close, task.finish())
        except Exception as error:
            task.fail(error)

    def run(self, tasks: list[Task], timeout_s: float = 600) -> None:
        """Turn until every one of ``tasks`` has an outcome: for callers without a queue. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while any(task.outcome is None for task in tasks):
            self.turn()
            if time.monotonic() > deadline:
                raise TimeoutError(f"Not done within {timeout_s} s.")

    def shutdown(self) -> None:
        self.codec.shutdown(wait=False, cancel_futures=True)


def _take_done(pending: dict[Task, Future[Any]]) -> list[tuple[Task, Future[Any]]]:
    done = [(task, future) for task, future in pending.items() if future.done()]
    for task, _ in done:
        del pending[task]
    return done
