"""What is asked of each pass of a job: of the first one, and of the tiles after it (``jobs/tiles.py``)."""

from jobs.schedulers import steps_run
from jobs.schema import MAX_SEED, InpaintParameters

SEED_STRIDE = 0x9E3779B1
"""Between the seeds of one tile and the next: far from those of neighbouring images."""


def asked_of(parameters: InpaintParameters, index: int) -> list[InpaintParameters]:
    """What is asked of a pass: the first one (0) paints all images, a later one each by itself on what it has so far.

    Each tile has seeds of its own, or all would have the same grain.
    """
    if parameters.tiles is None or index == 0:
        return [parameters]
    asked = {"n": 1, "strength": parameters.tiles.strength, "masked_content": "fill", "tiles": None}
    seeds = [(seed + index * SEED_STRIDE) % (MAX_SEED + 1) for seed in parameters.seeds]
    return [parameters.model_copy(update={**asked, "seed": seed}) for seed in seeds]


def steps_of(parameters: InpaintParameters, count: int = 0) -> int:
    """Denoising steps of a job with tiles, for each image, over all its passes. ``count``: tiles, if they are known."""
    name, steps, tiles = parameters.scheduler, parameters.num_inference_steps, parameters.tiles
    first = steps_run(name, steps, parameters.strength)
    return first + (count or tiles.count) * steps_run(name, steps, tiles.strength) if tiles else first
