"""A job of a tiny model as the session takes it."""

from typing import Any

import numpy as np

from jobs.catalog import ModelEntry
from jobs.families import Sampling
from jobs.schema import InputName
from tests.factories import inpaint_parameters, mask_with, model_entry, noise, png
from tests.worker import tiny
from worker.engine.stopwatch import Stopwatch
from worker.engine.task import Task

STEPS = 4


def task_of(entry: ModelEntry, job_id: str = "id", stopwatch: Stopwatch | None = None, **asked: Any) -> Task:
    """A job with the model's defaults where nothing else is asked."""
    defaults = {name: getattr(entry, name) for name in Sampling.model_fields}
    return Task(job_id, inpaint_parameters(**{**defaults, **asked}), entry, stopwatch or Stopwatch(0.0))


def task(name: str, seed: int, stopwatch: Stopwatch | None = None, **asked: Any) -> Task:
    """A job of the family's tiny model."""
    scheduler = next(iter(tiny.FAMILIES[name].schedulers))
    entry = model_entry(family=name, num_inference_steps=STEPS, guidance_scale=3.0, scheduler=scheduler)
    named = {"prompt": "cat " * seed, "seed": seed}
    return task_of(entry, str(seed), stopwatch, **{**named, **asked})


def uploads() -> dict[InputName, bytes]:
    return {"image": png(noise((80, 90, 3), seed=7)), "mask": png(mask_with(np.s_[20:50, 30:60], (80, 90)))}
