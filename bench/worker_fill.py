"""A fill that goes the service's own way, from the uploaded bytes to the PNG, without a queue."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.catalog import load_catalog
from jobs.schema import InpaintRequest, JobReport
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.stopwatch import Stopwatch
from worker.engine.task import Task
from worker.models.loading import Loader
from worker.settings import WorkerSettings

Pixels = NDArray[np.uint8]


def worker_fill(
    model: str = "pocket", preset: str | None = None, catalog: str | None = None, **asked: object
) -> Callable[[Pixels, NDArray[np.bool_]], Pixels]:
    """A function of image and hole (True = repaint) that runs a model of the catalog with its defaults.

    Args:
        model: a name of the catalog.
        preset: one of the model's, if any.
        catalog: the catalog's file; without it the one that ships.
        asked: request fields that differ from both.
    """
    entry = load_catalog(catalog).model(model)
    request = InpaintRequest.model_validate({"seed": 0, "preset": preset} | asked)
    parameters = entry.resolve(model, request)
    family = Loader(WorkerSettings()).load(model, entry)
    session = Session(Engine({model: family}, max_rows=16), codec_threads=1)

    def fill(image: Pixels, hole: NDArray[np.bool_]) -> Pixels:
        task = Task("bench", parameters, entry, Stopwatch(0.0))
        session.take(task, {"image": _png(image), "mask": _png(np.where(hole, np.uint8(255), np.uint8(0)))})
        session.run([task])
        if not isinstance(task.outcome, JobReport):
            raise RuntimeError(f"the fill failed: {task.outcome}")
        with Image.open(io.BytesIO(task.images[0])) as result:
            return np.asarray(result.convert("RGB"))

    return fill


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
