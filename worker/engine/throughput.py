"""How fast this worker is: the profiles of its models, corrected by recently measured times."""

import math
import time
from collections.abc import Iterable, Sequence

from jobs.approximations import SHALLOW_SHARE
from jobs.eta import cost_of, tiles_workload, workload_on
from jobs.speed import Cost, Speed, WorkerSpeed, speed_at
from worker.denoise.state import State
from worker.engine.engine import Engine
from worker.engine.task import Task

HORIZON_S = 10.0
"""Time constant of the moving average, in seconds of predicted time."""


class Throughput:
    """Compares each turn's work with what was predicted of it; on the engine's thread, but for ``speed``.

    A single step cannot be timed on a GPU, where the call returns before the work is done; many turns together can.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._predicted_s = self._taken_s = 1.0  # the profile alone, until turns have been measured
        self._expected_s = self._began = 0.0

    @property
    def slowdown(self) -> float:
        """Time that the work has taken, over the time that was predicted."""
        return self._taken_s / self._predicted_s

    # ---- one turn

    def begin(self) -> None:
        self._expected_s, self._began = 0.0, time.perf_counter()

    def prepared_or_finished(self, task: Task) -> None:
        """Expect half of the time outside the network: encoding, or decoding."""
        if measured := self.engine.speeds.get(task.model):
            self._expected_s += task.parameters.n * speed_at(measured, task.area_px).codec_s / 2

    def stepped(self, batch: Sequence[State]) -> None:
        key = batch[0].key
        if measured := self.engine.speeds.get(key.model):
            rows = len(batch) * (2 if key.guided else 1)
            share = SHALLOW_SHARE if key.shallow else 1
            self._expected_s += share * speed_at(measured, self.engine.area_px(key)).batch_s(rows)

    def end(self) -> None:
        if not self._expected_s:
            return
        fade = math.exp(-self._expected_s / HORIZON_S)
        self._predicted_s = self._predicted_s * fade + self._expected_s
        self._taken_s = self._taken_s * fade + time.perf_counter() - self._began

    def finished(self, task: Task) -> None:
        """Derive its model's speed from a job whose first pass was decoded, where that was not measured.

        For a model that is too slow to be measured, more rows are assumed to bring no gain.
        """
        if task.begun or self.engine.speeds.get(task.model):
            return
        work, spent = workload_on(task.parameters, task.entry, task.area_px), task.stopwatch.spent
        rows = task.stopwatch.images_stepped * work.rows / work.images * work.calls / task.states[0].calls
        row_s = spent["denoise"] / rows
        codec_s = (spent["text_encode"] + spent["vae_encode"] + spent["vae_decode"]) / work.images
        self.engine.speeds[task.model] = [Speed(area_px=work.area_px, pass_s=row_s, row_s=row_s, codec_s=codec_s)]

    # ---- for others

    def eta_ms(self, task: Task, tasks: Sequence[Task]) -> float | None:
        """Time until a job ends: the larger of the prediction and the time extrapolated from its steps.

        The steps so far do not include batch mates that are still to come, nor the decoding. None where its model was
        not measured and the job has not taken two steps.
        """
        if not self.engine.speeds.get(task.model):
            return task.eta_ms or None
        left = self._left(task)
        predicted_s = self.slowdown * max(left.alone_s, left.batched_s * len(tasks))
        return max(task.eta_ms, round(1000 * predicted_s, 1))

    def speed(self, seats: int, tasks: Iterable[Task], loading: Sequence[str] = ()) -> WorkerSpeed:
        """For the API. ``tasks``: those in the worker's seats. ``loading``: models that some of them wait for."""
        models = {name: list(speeds) for name, speeds in list(self.engine.speeds.items()) if speeds}
        left = [self._left(task) for task in tasks if task.model in models]
        return WorkerSpeed(seats=seats, slowdown=self.slowdown, models=models, left=left, loading=list(loading))

    def _left(self, task: Task) -> Cost:
        asked = task.parameters, task.entry
        work = tiles_workload(*asked, [task.region]) if task.begun else None
        work = work or workload_on(*asked, task.area_px or task.entry.size_px**2)
        work = work.model_copy(update={"tiles": tiles_workload(*asked, task.passes[task.begun + 1 :])})
        states = list(task.states)
        done = sum(state.index for state in states) / max(1, sum(state.calls for state in states))
        around = 1.0 if not states else 0.5 if done < 1 else 0.0
        return cost_of(work, self.engine.speeds[task.model], done, around)
