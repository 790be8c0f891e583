"""A job's clock: phases that follow one another without gaps, so that their sum is the total."""

import statistics
import time
from collections.abc import Callable
from threading import Lock
from typing import Literal

from jobs.schema import Timings

PHASES = (
    "queue",
    "fetch",
    "decode",
    "crop",
    "load",
    "text_encode",
    "vae_encode",
    "denoise",
    "vae_decode",
    "paste",
    "png",
    "store",
    "wait",
)

READY = ("wait", "denoise")
"""Phases in which the job waits for the engine's thread: they last longer when that thread is held up."""

NOT_OWN = ("queue", "fetch", "load", "store")
"""Phases in which the job waits for a worker, a model or Redis: they do not count against its deadline."""


class Stopwatch:
    """Exactly one phase runs at any time; ``enter`` ends one and begins the next. Times are kept in seconds.

    One thread at a time moves a job on; the lock is for the engine's thread, which reads while a codec thread writes.
    """

    def __init__(self, queued_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start in phase ``wait``.

        Args:
            queued_s: seconds the job stood in the queue before this worker took it.
            clock: reads seconds, from whatever start.
        """
        self._clock = clock
        self.spent = dict.fromkeys(PHASES, 0.0)
        self.spent["queue"] = max(0.0, queued_s)
        self.phase = "wait"
        self._since = clock()
        self._without_redis_s = 0.0
        self._steps: list[float] = []
        self._rows: list[int] = []
        self._lock = Lock()

    def enter(self, phase: str) -> None:
        with self._lock:
            now = self._clock()
            self.spent[self.phase] += now - self._since
            self.phase, self._since = phase, now

    def held_up(self, seconds: float, by: Literal["load", "redis"]) -> None:
        """The engine's thread was held up for the last ``seconds``, by the load of a model or while Redis was away.

        If the job waited for that thread, the time moves to the phase ``load`` or ``wait``; codec threads went on.
        """
        with self._lock:
            if self.phase not in READY:
                return
            moved_s = min(seconds, self._clock() - self._since)
            self._since += moved_s
            self.spent["load" if by == "load" else "wait"] += moved_s
            if by == "redis":
                self._without_redis_s += moved_s

    @property
    def own_s(self) -> float:
        """Seconds that the job has run, without the queue, loads of models, and times when Redis was away."""
        with self._lock:
            now_s = 0.0 if self.phase in NOT_OWN else self._clock() - self._since
            own_s = sum(seconds for phase, seconds in self.spent.items() if phase not in NOT_OWN)
            return own_s + now_s - self._without_redis_s

    def stepped(self, rows: int, step: int) -> None:
        """A forward pass of ``rows`` images, this job's among them, has ended; all of this job's are ``step`` steps on.

        A step can take several passes: with a scheduler of second order, or with more images than fit into one.
        """
        if step > len(self._steps):
            self._steps.append(self.own_s)
        self._rows.append(rows)

    @property
    def images_stepped(self) -> int:
        """Images in all passes that this job took part in, those of other jobs among them."""
        return sum(self._rows)

    def step_s(self) -> float:
        """Median of the job's own time from one step's end to the next, in seconds; 0 before the second step."""
        gaps = [later - earlier for earlier, later in zip(self._steps, self._steps[1:], strict=False)]
        return statistics.median(gaps) if gaps else 0.0

    def timings(self, steps: int) -> Timings:
        """The times so far, in milliseconds."""
        self.enter(self.phase)
        spent_ms = {phase: round(seconds * 1000, 3) for phase, seconds in self.spent.items()}
        return Timings(
            **spent_ms,
            total=round(sum(spent_ms.values()), 3),
            steps=steps,
            step_p50=round((self.step_s() or self.spent["denoise"] / max(steps, 1)) * 1000, 3),
            batch_mean=round(statistics.fmean(self._rows), 3) if self._rows else 0.0,
        )
