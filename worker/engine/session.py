"""The running batch of tasks, without Redis: each turn moves tasks on, until they have an outcome."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from jobs.schema import InputName
from jobs.speed import WorkerSpeed
from worker.denoise.device import is_out_of_memory, release_cache, released
from worker.denoise.state import State
from worker.engine.engine import Engine
from worker.engine.task import Task
from worker.engine.throughput import Throughput
from worker.families.clipseg import ClipSeg
from worker.pixels.decoding import Decode, decode_here
from worker.pixels.signing import Sign

IDLE_WAIT_S = 0.02
"""How long a turn with nothing to step waits for a codec thread."""

LOAD_S = 0.001
"""A shorter check of a model has found it on the device."""


@dataclass(frozen=True)
class WaitingForModel:
    """A task whose model does not fit yet, and the tasks that were there before; later ones do not overtake it."""

    task: Task
    ahead: frozenset[Task]


class Session:
    """Moves tasks through open -> prepare -> steps -> finish -> close. ``turn`` is called by the engine's thread.

    Args:
        engine: steps the states.
        codec_threads: threads that decode uploads and encode PNGs beside it.
        ready: ``worker.models.models.Models.ready``; without it the engine's models are all there are.
        decode: makes pixels of uploads; ``worker.pixels.decoding.Decoders`` where they may be hostile.
        sign: signs results; ``worker.pixels.signing.Signers`` where the operator has a key.
        segmenters: those on the device; ``ready`` loads them too.
    """

    def __init__(
        self,
        engine: Engine,
        codec_threads: int,
        ready: Callable[[str, Collection[str]], bool] | None = None,
        decode: Decode = decode_here,
        sign: Sign | None = None,
        segmenters: Mapping[str, ClipSeg] = MappingProxyType({}),
    ) -> None:
        self.engine = engine
        self.throughput = Throughput(engine)
        self.codec = ThreadPoolExecutor(codec_threads, thread_name_prefix="codec")
        self.opening: dict[Task, Future[Any]] = {}
        self.running: list[Task] = []
        self.closing: dict[Task, Future[Any]] = {}
        self.waiting: WaitingForModel | None = None
        self.loads_next: Task | None = None
        self.no_room: dict[Task, frozenset[Task]] = {}
        """Tasks that the device had no room for, and those that ran beside: tried again when one of these has left."""
        self.sign = sign
        self.segmenters = segmenters
        self._ready = ready or (lambda *_: True)
        self._decode = decode

    @property
    def tasks(self) -> list[Task]:
        """All tasks; can be read on any thread."""
        return list(dict.fromkeys([*self.opening, *self.running, *self.closing]))

    @property
    def loading(self) -> list[str]:
        """Models that are being loaded, or wait for room; can be read on any thread."""
        waiting, loads_next = self.waiting, self.loads_next
        return sorted({task.next_model for task in (loads_next, waiting and waiting.task) if task})

    def eta_ms(self, task: Task, tasks: Sequence[Task]) -> float | None:
        """See ``Throughput.eta_ms``."""
        return self.throughput.eta_ms(task, tasks)

    def speed(self, seats: int, tasks: Iterable[Task]) -> WorkerSpeed:
        """How fast this worker is, and what is left of ``tasks``."""
        return self.throughput.speed(seats, tasks, self.loading)

    def take(self, task: Task, inputs: Mapping[InputName, bytes | None]) -> None:
        """Begin a task."""
        self.opening[task] = self.codec.submit(task.open, inputs, self._decode)

    def drop(self, task: Task) -> None:
        """Forget a task, whatever its phase; a codec result still in progress is discarded."""
        self.opening.pop(task, None)
        self.closing.pop(task, None)
        if self.waiting and self.waiting.task is task:
            self.waiting = None
        if self.loads_next is task:
            self.loads_next = None
        self.no_room.pop(task, None)
        if task in self.running:
            self.running.remove(task)
        self.engine.leave(task.states)

    def turn(self) -> None:
        """Prepare an opened task, step, finish a task that has taken all its steps, collect closed tasks.

        A turn does at most one prepare, one step and one decode, which bounds latency.
        """
        if not self.running:
            pending = [future for future in (*self.opening.values(), *self.closing.values()) if not future.done()]
            wait(pending, IDLE_WAIT_S, return_when=FIRST_COMPLETED)
        next_task = self._next_to_start()
        self.throughput.begin()  # a load does not count
        if next_task:
            self._prepare(next_task, self.opening.pop(next_task))
        for task in self.running:
            task.previews.aim(task)
        self._record(self.engine.step())
        if stepped_out := [task for task in self.running if task.stepped_out and self._has_room(task)]:
            self._finish(stepped_out[0])
        self.throughput.end()
        for task, future in _take_done(self.closing):
            if error := future.exception():
                task.fail(error)  # type: ignore[arg-type]  # a pool's thread raises none but these
            else:
                task.outcome = future.result()

    def held_up(self, seconds: float, by: Literal["load", "redis"]) -> None:
        """The engine's thread stood still for the last ``seconds``; only codec threads went on."""
        for task in self.tasks:
            task.stopwatch.held_up(seconds, by)

    def _next_to_start(self) -> Task | None:
        """The first task that has been opened and may start; those that may not wait for a model to be loaded."""
        for task, opened in list(self.opening.items()):
            if not opened.done() or (self.no_room and not (task in self.no_room and self._has_room(task))):
                continue
            if opened.exception() or self._may_start(task):
                task.stopwatch.enter("wait")
                return task
            task.stopwatch.enter("load")
        return None

    def _may_start(self, task: Task) -> bool:
        """Whether the task's model is on the device, or cannot be loaded (the task then fails). Loads it if it fits."""
        if self.waiting and task is not self.waiting.task:
            return task in self.waiting.ahead and self._is_loaded(task.next_model)
        if not (self.waiting or task is self.loads_next or self._is_loaded(task.next_model)):
            self.loads_next = self.loads_next or task  # loaded in the next turn, after it has been published
            return False
        ahead = self.waiting.ahead if self.waiting else frozenset([*self.opening, *self.running])
        in_use = {other.next_model for other in (*self.running, *ahead.intersection(self.opening))}
        began = time.perf_counter()
        try:
            ready = self._ready(task.next_model, in_use)
        except Exception as error:
            task.fail(error)
            ready = True
        if (took_s := time.perf_counter() - began) > LOAD_S:
            self.held_up(took_s, "load")
        if task is self.loads_next:
            self.loads_next = None
        self.waiting = None if ready else WaitingForModel(task, ahead)
        return ready

    def _is_loaded(self, model: str) -> bool:
        return model in self.engine.models or model in self.segmenters

    def _prepare(self, task: Task, opened: Future[Any]) -> None:
        """Take an opened task on: draw its noise, or find its mask first, which it is then opened with."""
        self.no_room.pop(task, None)
        if task.outcome is not None:
            return
        try:
            self.engine.ahead.finish()  # the job waits for its mates' pass; its own phases begin now
            canvases = opened.result()
            if task.search and task.search.pending:
                logits = task.find(self.segmenters[task.next_model])
                self.opening[task] = self.codec.submit(task.cut_found, logits)
                return
            model = self.engine.models[task.model]
            adapters = self.engine.adapters.choose(task.parameters.loras)
            self.engine.set_adapters(model, adapters)
            self.engine.join(task.prepare(canvases, model, adapters))
            self.running.append(task)
            self.throughput.prepared_or_finished(task)
        except Exception as error:
            if self._waits_for_room(task, error, self.running):
                self.opening[task] = opened
            else:
                task.fail(error)

    def _record(self, batch: list[State]) -> None:
        if batch:
            self.throughput.stepped(batch)
        stepped = {id(state) for state in batch}
        for task in self.running:
            if any(id(state) in stepped for state in task.states):
                task.stopwatch.stepped(len(batch), task.step)
                task.previews.take(task, self.codec)

    def _finish(self, task: Task) -> None:
        self.no_room.pop(task, None)
        self.running.remove(task)
        self.engine.leave(task.states)
        if failure := task.failure():
            task.fail(failure)
            return
        try:
            self.engine.ahead.finish()
            pixels = task.finish()
            self.throughput.prepared_or_finished(task)
            self.throughput.finished(task)
            if task.has_more:
                task.leave_pass()
                self.opening[task] = self.codec.submit(task.go_on, pixels)
            else:
                self.closing[task] = self.codec.submit(task.close, pixels)
        except Exception as error:
            stepping = [other for other in self.running if not other.stepped_out]
            if self._waits_for_room(task, error, stepping):
                self.running.append(task)
            else:
                task.fail(error)

    def _has_room(self, task: Task) -> bool:
        """Whether to try a task that the device had no room for, or any other."""
        beside = self.no_room.get(task)
        return beside is None or not beside <= set(self.running)

    def _waits_for_room(self, task: Task, error: Exception, beside: Collection[Task]) -> bool:
        """Whether the device is full and others run, whose end makes room: until then none is prepared."""
        if not (is_out_of_memory(error) and beside):
            return False
        released(error)
        release_cache()
        self.no_room[task] = frozenset(beside)
        task.stopwatch.enter("wait")
        return True

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
