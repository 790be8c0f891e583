"""How fast this worker is: what the profiles of its models say, corrected by how long its work has taken lately."""

import math
import time
from collections.abc import Iterable, Sequence

from jobs.approximations import SHALLOW_SHARE
from jobs.pace import Cost, Pace, WorkerPace, pace_at
from jobs.work import cost_of, work_on
from worker.engine import Engine
from worker.state import DenoiseState
from worker.task import Task

HORIZON_S = 10.0
"""Work that lies so much other work back counts for a third."""


class Rates:
    """Compares each turn's work with what was predicted of it; on the engine's thread, but for ``pace``.

    A single step says nothing on a GPU, which is still at it when the call returns; many turns together do.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._predicted_s = self._taken_s = 1.0  # the profile's word, until there is other work
        self._expected_s = self._began = 0.0

    @property
    def slowness(self) -> float:
        """Time that the work has taken, over the time that was predicted."""
        return self._taken_s / self._predicted_s

    # ---- one turn

    def begin(self) -> None:
        self._expected_s, self._began = 0.0, time.perf_counter()

    def prepared_or_finished(self, task: Task) -> None:
        """Half of what is around the network: encoding, or decoding."""
        if measured := self.engine.paces.get(task.model):
            self._expected_s += task.parameters.n * pace_at(measured, task.area_px).around_s / 2

    def stepped(self, batch: Sequence[DenoiseState]) -> None:
        key = batch[0].key
        if measured := self.engine.paces.get(key.model):
            rows = len(batch) * (2 if key.guided else 1)
            share = SHALLOW_SHARE if key.shallow else 1
            self._expected_s += share * pace_at(measured, self.engine.area_px(key)).batch_s(rows)

    def end(self) -> None:
        if not self._expected_s:
            return
        fade = math.exp(-self._expected_s / HORIZON_S)
        self._predicted_s = self._predicted_s * fade + self._expected_s
        self._taken_s = self._taken_s * fade + time.perf_counter() - self._began

    def finished(self, task: Task) -> None:
        """Take the account of a decoded job for its model's pace, where that was not measured.

        A model that is too slow to be measured is taken to gain nothing from more rows.
        """
        if self.engine.paces.get(task.model):
            return
        work, spent = work_on(task.parameters, task.entry, task.area_px), task.stopwatch.spent
        rows = task.stopwatch.images_stepped * work.rows / work.images * work.calls / task.states[0].calls
        row_s = spent["denoise"] / rows
        around_s = (spent["text_encode"] + spent["vae_encode"] + spent["vae_decode"]) / work.images
        self.engine.paces[task.model] = [Pace(area_px=work.area_px, pass_s=row_s, row_s=row_s, around_s=around_s)]

    # ---- for others

    def eta_ms(self, task: Task, tasks: Sequence[Task]) -> float | None:
        """Time until a job ends among ``tasks``, as they are now: as predicted, or by its own steps if they say more.

        Steps so far know nothing of batch mates that are on their way, nor of the decoding to come. None where its
        model was not measured and the job has not taken two steps.
        """
        if not self.engine.paces.get(task.model):
            return task.eta_ms or None
        left = self._left(task)
        predicted_s = self.slowness * max(left.alone_s, left.share_s * len(tasks))
        return max(task.eta_ms, round(1000 * predicted_s, 1))

    def pace(self, seats: int, tasks: Iterable[Task], loading: Sequence[str] = ()) -> WorkerPace:
        """For the API. ``tasks``: those in the worker's seats. ``loading``: models that some of them wait for."""
        models = {name: list(paces) for name, paces in list(self.engine.paces.items()) if paces}
        left = [self._left(task) for task in tasks if task.model in models]
        return WorkerPace(seats=seats, slowness=self.slowness, models=models, left=left, loading=list(loading))

    def _left(self, task: Task) -> Cost:
        work = work_on(task.parameters, task.entry, task.area_px or task.entry.size_px**2)
        states = list(task.states)
        done = sum(state.index for state in states) / max(1, sum(state.calls for state in states))
        around = 1.0 if not states else 0.5 if done < 1 else 0.0
        return cost_of(work, self.engine.paces[task.model], done, around)
