"""Encoding and decoding on a device without room for all images of a job at once, or for a whole picture."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from jobs.schema import Approximation
from worker.denoise.device import is_out_of_memory, release_cache
from worker.denoise.state import State
from worker.families.base import Family
from worker.pixels.canvas import Pixels

Done = TypeVar("Done")


def in_halves(decode: Callable[[Sequence[State]], Pixels], states: Sequence[State]) -> Pixels:
    """``decode`` of all states, (rows, H, W, 3); of each half where that finds no room, down to one image.

    Raises:
        RuntimeError: the device has no room for one image.
    """
    try:
        return decode(states)
    except RuntimeError as error:
        if len(states) == 1 or not is_out_of_memory(error):
            raise
    release_cache()
    half = len(states) // 2
    return np.concatenate([in_halves(decode, states[:half]), in_halves(decode, states[half:])])


def tiled_at_need(call: Callable[[], Done], family: Family, side_px: int) -> tuple[Done, list[Approximation]]:
    """What ``call`` returns; where the device has no room for it, with the family's VAE working tile by tile.

    Args:
        call: encodes or decodes with the family.
        side_px: the longer one of its canvas. One that is no larger than a tile is not tried again.

    Returns:
        Its result, and what it lacks of the best.
    """
    try:
        return call(), []
    except RuntimeError as error:
        if not is_out_of_memory(error) or side_px <= family.tile_px:
            raise
    release_cache()
    with family.tiled():
        return call(), ["tiled"]
