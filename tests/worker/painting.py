"""A photo and a mask through a worker's own parts, without a queue."""

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.catalog import ModelEntry, load_catalog
from jobs.schema import InpaintParameters, JobReport
from worker.engine import Engine
from worker.families.base import Family
from worker.loading import Loader
from worker.session import Session
from worker.settings import WorkerSettings
from worker.stopwatch import Stopwatch
from worker.task import Task

Pixels = NDArray[np.uint8]

POCKET = load_catalog().model("pocket")


@cache
def pocket() -> Family:
    """The embedded model, loaded once a process."""
    return Loader(WorkerSettings(device="cpu")).load("pocket", POCKET)


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def task(entry: ModelEntry, **asked: Any) -> Task:
    """A task with the model's defaults where nothing else is asked."""
    names = ("num_inference_steps", "guidance_scale", "strength", "scheduler", "masked_content")
    defaults = {name: getattr(entry, name) for name in names}
    parameters = InpaintParameters.model_validate({"model": "tiny", "seed": 1, **defaults, **asked})
    return Task("id", parameters, entry, Stopwatch(0.0))


def run(photo: Pixels, mask: Pixels, model: Family, entry: ModelEntry, **asked: Any) -> Task:
    """The task at its end, whatever that is."""
    one = task(entry, model=model.name, **asked)
    session = Session(Engine({model.name: model}, max_rows=8), codec_threads=1)
    session.take(one, png(photo), png(mask))
    session.run([one])
    session.shutdown()
    return one


def painted(photo: Pixels, mask: Pixels, model: Family, entry: ModelEntry, **asked: Any) -> Pixels:
    """The first result; raises what the task failed with."""
    one = run(photo, mask, model, entry, **asked)
    if isinstance(one.outcome, Exception):
        raise one.outcome
    assert isinstance(one.outcome, JobReport)
    with Image.open(io.BytesIO(one.images[0])) as image:
        return np.asarray(image)
