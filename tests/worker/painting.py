"""A photo and a mask through a worker's own parts, without a queue: with a model, or with noise in its place."""

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.catalog import ModelEntry, load_catalog
from jobs.schema import JobReport
from tests.factories import mask_with, model_entry, noise, png
from tests.worker.tasks import task_of
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.base import Family
from worker.models.loading import Loader
from worker.pixels.signing import Sign
from worker.settings import WorkerSettings

Pixels = NDArray[np.uint8]

POCKET = load_catalog().model("pocket")
ENTRY = model_entry(num_inference_steps=1, max_size_px=128)
JOB_ID = "6f1c2a9e4b7d4c1f8a3e5d7b9c0f1e2d"
MASK = mask_with(np.s_[20:40, 10:40], (48, 64))


@cache
def pocket() -> Family:
    """The embedded model, loaded once a process."""
    return Loader(WorkerSettings(device="cpu")).load("pocket", POCKET)


def run(photo: Pixels, mask: Pixels, model: Family, entry: ModelEntry, **asked: Any) -> Task:
    """The task at its end, whatever that is."""
    one = task_of(entry, model=model.name, **asked)
    session = Session(Engine({model.name: model}, max_rows=8), codec_threads=1)
    session.take(one, {"image": png(photo), "mask": png(mask)})
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


def repaint(
    photo: bytes, mask: Pixels = MASK, *, marks: bool = True, sign: Sign | None = None, **fields: Any
) -> tuple[JobReport, list[bytes]]:
    """The report and the files of a job, with noise in place of what a network would paint."""
    task = task_of(ENTRY, JOB_ID, **fields)
    task.marks, task.sign = marks, sign
    (canvas,) = task.open({"image": photo, "mask": png(mask)})
    return task.close(noise((task.parameters.n, *canvas.image.shape))), task.images
