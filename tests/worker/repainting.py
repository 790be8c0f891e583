"""A photo's way through the worker's own code, with noise in place of what a network would paint."""

import io
from typing import Any

import numpy as np
from PIL import Image

from jobs.catalog import ModelEntry
from jobs.schema import InpaintParameters, JobReport
from worker.stopwatch import Stopwatch
from worker.task import Task

ENTRY = ModelEntry(
    family="sd",
    source="tiny",
    num_inference_steps=1,
    guidance_scale=1,
    strength=1,
    scheduler="ddim",
    size_px=64,
    max_size_px=128,
)
REQUEST: dict[str, Any] = {
    "model": "tiny",
    "seed": 1,
    "num_inference_steps": 1,
    "guidance_scale": 1,
    "strength": 1,
    "scheduler": "ddim",
    "masked_content": "original",
}

JOB_ID = "6f1c2a9e4b7d4c1f8a3e5d7b9c0f1e2d"

MASK = np.zeros((48, 64), np.uint8)
MASK[20:40, 10:40] = 255


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def repaint(photo: bytes, mask: np.ndarray = MASK, **fields: Any) -> tuple[JobReport, list[bytes]]:
    """The report and the PNGs of a job."""
    task = Task(JOB_ID, InpaintParameters.model_validate(REQUEST | fields), ENTRY, Stopwatch(0.0))
    canvas = task.open(photo, png(mask))
    noise = np.random.default_rng(0).integers(0, 256, (task.parameters.n, *canvas.image.shape), np.uint8)
    return task.close(noise), task.images
