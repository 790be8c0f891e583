"""What a model's forward pass costs by its rows, measured on this device when the model is loaded.

It runs where the load does: before a worker is announced or, for a model loaded later, in the same pause. So it is
bounded: a small canvas says first whether the model is fast enough to be measured within ``BUDGET_S``. A model that is
not costs two small images here; the first of its jobs measures it (``worker.rates.Rates.finished``).
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from jobs.catalog import ModelEntry
from jobs.pace import Pace
from jobs.schema import InpaintParameters
from worker.families.base import Canvas, Family
from worker.state import DenoiseState

log = logging.getLogger("worker.profile")

BUDGET_S = 1.0
GAIN = 1.1
"""More rows in a pass are worth it if they bring at least so many times the rows a second."""
TRIES = 2
"""Passes of each number of rows; the fastest counts, since whatever else runs on the machine only ever adds time."""


@dataclass(frozen=True)
class Sweep:
    """Seconds of a pass by its rows, and the knee; None where there was no time to find it."""

    pass_s: dict[int, float]
    knee: int | None

    @property
    def row_s(self) -> float:
        return min(seconds / rows for rows, seconds in self.pass_s.items())


@dataclass(frozen=True)
class Look:
    """Seconds that an image of one step took, and its pass among them."""

    area_px: int
    image_s: float
    pass_s: float

    @property
    def pace(self) -> Pace:
        """Without a knee: no more than one row was run."""
        around_s = self.image_s - self.pass_s
        return Pace(area_px=self.area_px, pass_s=self.pass_s, row_s=self.pass_s, around_s=around_s)


def profile(family: Family, entry: ModelEntry, max_rows: int, budget_s: float = BUDGET_S) -> list[Pace]:
    """Measure a model at its native size for half of the time, and at its largest if it can be in what is left.

    A small canvas (a quarter of the side, 64 px at least) comes first: it warms up, and where it takes half of the
    budget, the native size is not tried. Where one image of that size takes the whole budget, nothing else is.

    Args:
        family: the loaded model.
        entry: its entry in the catalog.
        max_rows: rows of the network that a pass will ever have; no more are tried.
        budget_s: how long to measure, after the warm-up.

    Returns:
        One or two paces, the smaller size first; none if the model is too slow or cannot be run, which its jobs see.
    """
    try:
        paces = by_cost(_paces(family, entry, max_rows, budget_s))
    except Exception as error:
        log.warning("model %s could not be measured: %s", family.name, error)
        return []
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the widest pass of all has just been tried
    for pace in paces:
        log.info("model %s: %s", family.name, pace)
    return paces


def _paces(family: Family, entry: ModelEntry, max_rows: int, budget_s: float) -> list[Pace]:
    native_px, largest_px = entry.size_px, entry.max_size_px
    look = _warm_up(family, entry, budget_s / 2)
    if look.area_px < native_px**2:
        if look.image_s > budget_s / 2:
            log.info("model %s: an image takes %.1f s already at %d px", family.name, look.image_s, look.area_px)
            return []
        look = _look(family, entry, native_px, seed=2)
    if look.image_s > budget_s:
        return [look.pace]
    deadline = time.perf_counter() + budget_s
    native = _pace(family, entry, native_px, max_rows, budget_s / 2)
    least_s = (largest_px / native_px) ** 2 * (native.around_s + 2 * native.pass_s)
    left_s = deadline - time.perf_counter()
    if largest_px == native_px or least_s > left_s:
        return [native]
    return [native, _pace(family, entry, largest_px, max_rows, left_s)]


def _warm_up(family: Family, entry: ModelEntry, limit_s: float) -> Look:
    """A small image; another one if that took long, for the first call of everything costs more: on a GPU, seconds."""
    small_px = min(entry.size_px, max(64, entry.size_px // 4 // 64 * 64))
    first = _look(family, entry, small_px, seed=0)
    return first if first.image_s <= limit_s else _look(family, entry, small_px, seed=1)


def _look(family: Family, entry: ModelEntry, size_px: int, seed: int) -> Look:
    began = time.perf_counter()
    state = any_state(family, entry, size_px, seed)
    pass_s = _pass_s(family, state, 1)
    family.finish([state])
    return Look(size_px**2, time.perf_counter() - began, pass_s)


def by_cost(paces: list[Pace]) -> list[Pace]:
    """A knee that was found at one size only tells the other one: as many times fewer rows as a row costs more."""
    found = next((pace for pace in paces if pace.knee), None)
    if found is None or found.knee is None:
        return paces
    work_s = found.knee * found.row_s
    return [pace if pace.knee else pace.model_copy(update={"knee": work_s / pace.row_s}) for pace in paces]


def _pace(family: Family, entry: ModelEntry, size_px: int, max_rows: int, budget_s: float) -> Pace:
    began = time.perf_counter()
    state = any_state(family, entry, size_px, seed=size_px)
    family.finish([state])
    around_s = time.perf_counter() - began
    found = sweep(lambda rows: _pass_s(family, state, rows), max_rows, budget_s - around_s)
    return Pace(area_px=size_px**2, pass_s=found.pass_s[1], row_s=found.row_s, around_s=around_s, knee=found.knee)


def sweep(pass_s: Callable[[int], float], max_rows: int, budget_s: float) -> Sweep:
    """Measure passes of 1, 2, 4, ... rows until two doublings together bring less than ``GAIN``.

    A pass that would probably outlast the budget is not begun; what the device has no memory for ends it, too.
    """
    pass_s(1)  # warms up
    deadline = time.perf_counter() + budget_s
    taken = {1: pass_s(1)}
    rows = 2
    try:
        while rows <= max_rows and not _flat(taken):
            if time.perf_counter() + TRIES * 2 * taken[rows // 2] > deadline:
                return Sweep(taken, None)
            taken[rows] = min(pass_s(rows) for _ in range(TRIES))
            rows *= 2
    except torch.OutOfMemoryError:
        log.info("no memory for %d rows", rows)
    return Sweep(taken, knee(taken))


def _flat(pass_s: Mapping[int, float]) -> bool:
    """Whether the last two doublings together have brought little."""
    *_, first, second, third = [0.0, 0.0, *(rows / seconds for rows, seconds in pass_s.items())]
    return max(second, third) < GAIN * first


def knee(pass_s: Mapping[int, float]) -> int:
    """The fewest rows whose rows a second come within a tenth of the best."""
    best = max(rows / seconds for rows, seconds in pass_s.items())
    return min(rows for rows, seconds in pass_s.items() if rows / seconds * GAIN >= best)


def any_state(family: Family, entry: ModelEntry, size_px: int, seed: int) -> DenoiseState:
    """A request like many: random pixels, since some devices are faster with zeros, and a prompt not seen before."""
    image = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[size_px // 4 : -size_px // 4, size_px // 4 : -size_px // 4] = 255
    parameters = InpaintParameters(
        model=family.name,
        prompt=str(seed),
        seed=seed,
        num_inference_steps=entry.num_inference_steps,
        guidance_scale=1.0,
        strength=entry.strength,
        scheduler=entry.scheduler,
        masked_content=entry.masked_content,
    )
    canvas = Canvas(image, mask, start_filled=entry.masked_content == "fill")
    return family.prepare(canvas, parameters, lambda _: None)[0]


def _pass_s(family: Family, state: DenoiseState, rows: int) -> float:
    """Seconds of one forward pass, to its end: reading a value of the output waits for the device."""
    began = time.perf_counter()
    float(family.predict([state] * rows).flatten()[0])
    return time.perf_counter() - began
