"""A job's clock: phases that follow one another without gaps, so that their sum is the total."""

import statistics
import time
from collections.abc import Callable

from jobs.schema import Timings

PHASES = (
    "queue",
    "fetch",
    "decode",
    "crop",
    "text_encode",
    "vae_encode",
    "denoise",
    "vae_decode",
    "paste",
    "png",
    "store",
    "wait",
)


class Stopwatch:
    """Exactly one phase runs at any time; ``enter`` ends one and begins the next. Times are kept in seconds."""

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
        self._steps: list[float] = []
        self._rows: list[int] = []

    def enter(self, phase: str) -> None:
        now = self._clock()
        self.spent[self.phase] += now - self._since
        self.phase, self._since = phase, now

    def stepped(self, rows: int, step: int) -> None:
        """A forward pass of ``rows`` images, this job's among them, has ended; all of this job's are ``step`` steps on.

        A step can take several passes: with a scheduler of second order, or with more images than fit into one.
        """
        if step > len(self._steps):
            self._steps.append(self._clock())
        self._rows.append(rows)

    def step_s(self) -> float:
        """Median time from one step's end to the next, in seconds; 0 before the second step."""
        gaps = [later - earlier for earlier, later in zip(self._steps, self._steps[1:], strict=False)]
        return statistics.median(gaps) if gaps else 0.0

    def timings(self, steps: int) -> Timings:
        """The account so far, in milliseconds."""
        self.enter(self.phase)
        spent_ms = {phase: round(seconds * 1000, 3) for phase, seconds in self.spent.items()}
        return Timings(
            **spent_ms,
            total=round(sum(spent_ms.values()), 3),
            steps=steps,
            step_p50=round((self.step_s() or self.spent["denoise"] / max(steps, 1)) * 1000, 3),
            batch_mean=round(statistics.fmean(self._rows), 3) if self._rows else 0.0,
        )
