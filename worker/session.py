"""The running batch of tasks, free of Redis: tasks come in, move along turn by turn, and go out with an outcome."""

import time
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

from worker.decoding import Decode, decode_here
from worker.engine import Engine
from worker.rates import Rates
from worker.state import DenoiseState
from worker.task import Task

IDLE_WAIT_S = 0.02
"""How long a turn with nothing to step waits for a codec thread."""

LOAD_S = 0.001
"""A shorter look for a model has found it on the device."""


@dataclass(frozen=True)
class Waiting:
    """A task whose model has no room yet, and the tasks that had come by then: nobody who came later overtakes it."""

    task: Task
    ahead: frozenset[Task]


class Session:
    """Moves tasks through open -> prepare -> steps -> finish -> close. ``turn`` is called by the engine's thread.

    Args:
        engine: steps the states.
        codec_threads: threads that decode uploads and encode PNGs beside it.
        ready: ``worker.models.Models.ready``; without it the engine's models are all there are.
        decode: makes pixels of uploads; ``worker.decoding.Decoders`` where they may be hostile.
    """

    def __init__(
        self,
        engine: Engine,
        codec_threads: int,
        ready: Callable[[str, Collection[str]], bool] | None = None,
        decode: Decode = decode_here,
    ) -> None:
        self.engine = engine
        self.rates = Rates(engine)
        self.codec = ThreadPoolExecutor(codec_threads, thread_name_prefix="codec")
        self.opening: dict[Task, Future[Any]] = {}
        self.running: list[Task] = []
        self.closing: dict[Task, Future[Any]] = {}
        self.waiting: Waiting | None = None
        self.loads_next: Task | None = None
        self._ready = ready or (lambda *_: True)
        self._decode = decode

    @property
    def tasks(self) -> list[Task]:
        """All that are here; can be asked for on any thread."""
        return list(dict.fromkeys([*self.opening, *self.running, *self.closing]))

    @property
    def loading(self) -> list[str]:
        """Models that are being loaded, or wait for room; can be asked for on any thread."""
        waiting, loads_next = self.waiting, self.loads_next
        return sorted({task.model for task in (loads_next, waiting and waiting.task) if task})

    def take(self, task: Task, image: bytes | None, mask: bytes | None) -> None:
        """Begin a task."""
        self.opening[task] = self.codec.submit(task.open, image, mask, self._decode)

    def drop(self, task: Task) -> None:
        """Forget a task, whatever it is at; a codec thread busy with it finishes for nothing."""
        self.opening.pop(task, None)
        self.closing.pop(task, None)
        if self.waiting and self.waiting.task is task:
            self.waiting = None
        if self.loads_next is task:
            self.loads_next = None
        if task in self.running:
            self.running.remove(task)
        self.engine.leave(task.states)

    def turn(self) -> None:
        """Prepare a task that has been opened, step, finish a task that is stepped out, collect what has been closed.

        One of each: whoever comes, waits for one preparation, one step and one decoding at most until it is looked at.
        """
        if not self.running:
            pending = [future for future in (*self.opening.values(), *self.closing.values()) if not future.done()]
            wait(pending, IDLE_WAIT_S, return_when=FIRST_COMPLETED)
        next_task = self._next_to_start()
        self.rates.begin()  # a load is no work
        if next_task:
            self._prepare(next_task, self.opening.pop(next_task))
        self._note(self.engine.step())
        if stepped_out := [task for task in self.running if task.stepped_out]:
            self._finish(stepped_out[0])
        self.rates.end()
        for task, future in _take_done(self.closing):
            task.outcome = future.exception() or future.result()  # type: ignore[assignment]

    def held_up(self, seconds: float, by: Literal["load", "redis"]) -> None:
        """No task could go on for the last ``seconds``, but on the codec threads."""
        for task in self.tasks:
            task.stopwatch.held_up(seconds, by)

    def _next_to_start(self) -> Task | None:
        """The first task that has been opened and may start; those that may not wait for a model to be loaded."""
        for task, opened in list(self.opening.items()):
            if not opened.done():
                continue
            if opened.exception() or self._may_start(task):
                task.stopwatch.enter("wait")
                return task
            task.stopwatch.enter("load")
        return None

    def _may_start(self, task: Task) -> bool:
        """Whether the task's model is on the device, or the task fails for want of it; loads it where there is room."""
        if self.waiting and task is not self.waiting.task:
            return task in self.waiting.ahead and task.model in self.engine.models
        if not (self.waiting or task is self.loads_next or task.model in self.engine.models):
            self.loads_next = self.loads_next or task  # in a turn: the engine's thread stands still then
            return False
        ahead = self.waiting.ahead if self.waiting else frozenset(self.opening)
        in_use = {other.model for other in (*self.running, *ahead.intersection(self.opening))}
        began = time.perf_counter()
        try:
            ready = self._ready(task.model, in_use)
        except Exception as error:
            task.fail(error)
            ready = True
        if (took_s := time.perf_counter() - began) > LOAD_S:
            self.held_up(took_s, "load")
        if task is self.loads_next:
            self.loads_next = None
        self.waiting = None if ready else Waiting(task, ahead)
        return ready

    def _prepare(self, task: Task, opened: Future[Any]) -> None:
        if task.outcome is not None:
            return
        try:
            canvas, model = opened.result(), self.engine.models[task.model]
            adapters = self.engine.adapters.choose(task.parameters.loras)
            self.engine.wear(model, adapters)
            self.engine.join(task.prepare(canvas, model, adapters))
            self.running.append(task)
            self.rates.prepared_or_finished(task)
        except Exception as error:
            task.fail(error)

    def _note(self, batch: list[DenoiseState]) -> None:
        if batch:
            self.rates.stepped(batch)
        stepped = {id(state) for state in batch}
        for task in self.running:
            if any(id(state) in stepped for state in task.states):
                task.stopwatch.stepped(len(batch), task.step)

    def _finish(self, task: Task) -> None:
        self.running.remove(task)
        self.engine.leave(task.states)
        try:
            if error := task.failure():
                raise error
            pixels = task.finish()
            self.rates.prepared_or_finished(task)
            self.rates.finished(task)
            self.closing[task] = self.codec.submit(task.close, pixels)
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
