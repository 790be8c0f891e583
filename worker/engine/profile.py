"""What a model's forward pass costs by its rows, measured on this device when the model is loaded.

It runs where the load does: before a worker is announced or, for a model loaded later, in the same pause. So it is
bounded: a small canvas first shows whether the model is fast enough to be measured within ``BUDGET_S``. A slower one
costs two small images here; the first of its jobs measures it (``worker.engine.throughput.Throughput.finished``).
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jobs.catalog import ModelEntry
from jobs.families import FAMILIES
from jobs.schema import InpaintRequest
from jobs.speed import Speed
from worker.denoise.device import is_out_of_memory, raise_if_lost, release_cache
from worker.denoise.state import State
from worker.families.base import Family
from worker.pixels.canvas import Canvas

log = logging.getLogger("worker.engine.profile")

BUDGET_S = 1.0
BUDGET_PASSES = 8
"""Passes of one row that a slow network is given instead: one and two rows show whether it gains from more."""
LIMIT_S = 10.0
"""Those passes take no longer than this."""
GAIN = 1.1
"""More rows in a pass are used if they bring at least so many times the rows a second."""
TRIES = 2
"""Passes of each number of rows; the fastest counts, since other load on the machine only adds time."""


@dataclass(frozen=True)
class Sweep:
    """Seconds of a pass by its rows, and the best_rows; None where there was no time to find it."""

    pass_s: dict[int, float]
    best_rows: int | None

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
    def speed(self) -> Speed:
        """Without a best_rows: no more than one row was run."""
        codec_s = self.image_s - self.pass_s
        return Speed(area_px=self.area_px, pass_s=self.pass_s, row_s=self.pass_s, codec_s=codec_s)


def profile(family: Family, entry: ModelEntry, max_rows: int, budget_s: float = BUDGET_S) -> list[Speed]:
    """Measure a model at its native size for half of the time, and at its largest if it can be in what is left.

    A small canvas (a quarter of the side, 64 px at least) comes first: it warms up, and where it takes half of the
    budget, the native size is not tried. A network too slow for the budget is given a few passes instead.

    Args:
        family: the loaded model.
        entry: its entry in the catalog.
        max_rows: rows of the network that a pass will ever have; no more are tried.
        budget_s: how long to measure, after the warm-up.

    Returns:
        One or two speeds, the smaller size first; none if the model is too slow or cannot be run.
    """
    try:
        speeds = by_cost(_speeds(family, entry, max_rows, budget_s))
    except Exception as error:
        raise_if_lost(error)
        log.warning("model %s could not be measured: %s", family.name, error)
        return []
    finally:
        release_cache()  # the widest pass of all has just been tried
    for speed in speeds:
        log.info("model %s: %s", family.name, speed)
    return speeds


def _speeds(family: Family, entry: ModelEntry, max_rows: int, budget_s: float) -> list[Speed]:
    native_px, largest_px = entry.size_px, entry.max_size_px
    look = _warm_up(family, entry, budget_s / 2)
    if look.area_px < native_px**2:
        if look.image_s > budget_s / 2:
            log.info("model %s: an image takes %.1f s already at %d px", family.name, look.image_s, look.area_px)
            return []
        look = _look(family, entry, native_px, seed=2)
    if 6 * look.pass_s > LIMIT_S:  # one row twice, two rows twice
        return [look.speed]
    deadline = time.perf_counter() + budget_s
    native = _speed(family, entry, native_px, max_rows, budget_s / 2)
    least_s = (largest_px / native_px) ** 2 * (native.codec_s + 2 * native.pass_s)
    left_s = deadline - time.perf_counter()
    if largest_px == native_px or least_s > left_s:
        return [native]
    return [native, *_speed_with_room(family, entry, largest_px, max_rows, left_s)]


def _speed_with_room(family: Family, entry: ModelEntry, size_px: int, max_rows: int, budget_s: float) -> list[Speed]:
    """One speed, or none where the device has no room for a picture of that size."""
    try:
        return [_speed(family, entry, size_px, max_rows, budget_s)]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.info("model %s: no memory for %d px", family.name, size_px)
    release_cache()
    return []


def _warm_up(family: Family, entry: ModelEntry, limit_s: float) -> Look:
    """A small image; another one if that took long, as first calls cost more: on a GPU, seconds."""
    small_px = min(entry.size_px, max(64, entry.size_px // 4 // 64 * 64))
    first = _look(family, entry, small_px, seed=0)
    return first if first.image_s <= limit_s else _look(family, entry, small_px, seed=1)


def _look(family: Family, entry: ModelEntry, size_px: int, seed: int) -> Look:
    began = time.perf_counter()
    state = any_state(family, entry, size_px, seed)
    pass_s = run_pass_s(family, state, 1)
    family.finish([state])
    return Look(size_px**2, time.perf_counter() - began, pass_s)


def by_cost(speeds: list[Speed]) -> list[Speed]:
    """If only one size has best_rows, scale it by the cost per row."""
    found = next((speed for speed in speeds if speed.best_rows), None)
    if found is None or found.best_rows is None:
        return speeds
    work_s = found.best_rows * found.row_s
    return [
        speed if speed.best_rows else speed.model_copy(update={"best_rows": work_s / speed.row_s}) for speed in speeds
    ]


def _speed(family: Family, entry: ModelEntry, size_px: int, max_rows: int, budget_s: float) -> Speed:
    began = time.perf_counter()
    state = any_state(family, entry, size_px, seed=size_px)
    family.finish([state])
    codec_s = time.perf_counter() - began
    found = sweep(lambda rows: run_pass_s(family, state, rows), max_rows, budget_s - codec_s)
    return Speed(
        area_px=size_px**2, pass_s=found.pass_s[1], row_s=found.row_s, codec_s=codec_s, best_rows=found.best_rows
    )


def sweep(pass_s: Callable[[int], float], max_rows: int, budget_s: float) -> Sweep:
    """Measure passes of 1, 2, 4, ... rows until two doublings together bring less than ``GAIN``.

    The budget is in seconds or, for a slow network, in passes. A pass that would probably outlast it is not begun; what
    was measured then counts if the last doubling brought little. A full device ends the sweep too.
    """
    pass_s(1)  # warms up
    began = time.perf_counter()
    taken = {1: pass_s(1)}
    deadline = began + min(max(budget_s, BUDGET_PASSES * taken[1]), LIMIT_S)
    rows = 2
    try:
        while rows <= max_rows and not flat(taken):
            if time.perf_counter() + TRIES * 2 * taken[rows // 2] > deadline:
                return Sweep(taken, best_rows(taken) if _last_gain(taken) < GAIN else None)
            taken[rows] = min(pass_s(rows) for _ in range(TRIES))
            rows *= 2
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.info("no memory for %d rows", rows)
    return Sweep(taken, best_rows(taken))


def flat(pass_s: Mapping[int, float]) -> bool:
    """Whether the last two doublings together have brought little."""
    *_, first, second, third = [0.0, 0.0, *(rows / seconds for rows, seconds in pass_s.items())]
    return max(second, third) < GAIN * first


def _last_gain(pass_s: Mapping[int, float]) -> float:
    """How many times the rows a second the last doubling has brought; infinite before there was one."""
    *_, before, last = [0.0, *(rows / seconds for rows, seconds in pass_s.items())]
    return last / before if before else math.inf


def best_rows(pass_s: Mapping[int, float]) -> int:
    """The fewest rows whose rows a second come within a tenth of the best."""
    best = max(rows / seconds for rows, seconds in pass_s.items())
    return min(rows for rows, seconds in pass_s.items() if rows / seconds * GAIN >= best)


def any_state(family: Family, entry: ModelEntry, size_px: int, seed: int) -> State:
    """A typical request: random pixels, since some devices are faster with zeros, and a new prompt."""
    image = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[size_px // 4 : -size_px // 4, size_px // 4 : -size_px // 4] = 255
    asked = {"prompt": str(seed), "guidance_scale": 1.0} if FAMILIES[entry.family].denoises else {}
    parameters = entry.resolve(family.name, InpaintRequest.model_validate({"seed": seed, **asked}))
    canvas = Canvas(image, mask, start_filled=entry.masked_content == "fill")
    state: State = family.prepare(canvas, parameters, lambda _: None)[0]
    return state


def run_pass_s(family: Family, state: State, rows: int) -> float:
    """Seconds of one forward pass, to its end: reading a value of the output waits for the device."""
    began = time.perf_counter()
    float(family.predict([state] * rows).flatten()[0])
    return time.perf_counter() - began
