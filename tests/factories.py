"""Valid records and files that many tests need, each with what a test wants otherwise by name."""

import io
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.catalog import ModelEntry
from jobs.schema import InpaintParameters, MaskReport, WorkerPresence
from jobs.speed import WorkerSpeed

SAMPLING: dict[str, Any] = {
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "strength": 1.0,
    "scheduler": "ddim",
    "masked_content": "original",
}
"""A short job without guidance, on a model whose noise follows the law of diffusion."""


def inpaint_parameters(**changed: Any) -> InpaintParameters:
    return InpaintParameters.model_validate({"model": "tiny", "seed": 1, **SAMPLING, **changed})


def model_entry(**changed: Any) -> ModelEntry:
    """Of family ``sd``, run at 64 px. A family of another law needs a scheduler of that law."""
    sizes = {"size_px": 64, "max_size_px": 64}
    return ModelEntry.model_validate({"family": "sd", "source": "/tiny", **sizes, **SAMPLING, **changed})


def mask_report(**changed: Any) -> MaskReport:
    return MaskReport.model_validate({"mode": "white", "coverage": 0.5, "bbox": (0, 0, 4, 4), "soft": False, **changed})


def presence(name: str, **changed: Any) -> WorkerPresence:
    """Of a worker that beats just now and has a job in one of its seats."""
    fields = {"models": ["pocket"], "seats": 4, "jobs": ["a"], "device": "cpu", "device_memory_bytes": 1}
    return WorkerPresence.model_validate({"name": name, "last_beat_at": datetime.now(UTC), **fields, **changed})


def worker_speed(**changed: Any) -> WorkerSpeed:
    """Of a worker of one seat that has measured no model and has nothing to do."""
    return WorkerSpeed.model_validate({"seats": 1, "models": {}, "left": [], **changed})


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """A file of the format, with Pillow's ``options`` for it."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png(pixels: NDArray[Any], **options: Any) -> bytes:
    """A file of (height, width) or (height, width, channels) values of 8 bits."""
    return encoded(Image.fromarray(pixels), **options)


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Values of 8 bits, each drawn by itself: what no codec makes small."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def mask_with(hole: Any, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask of (height, width), white in the hole, such as ``np.s_[10:20, 5:70]``, else black."""
    mask = np.zeros(shape, np.uint8)
    mask[hole] = 255
    return mask


def multipart(image: bytes, mask: bytes) -> dict[str, tuple[str, bytes]]:
    """The two files of a submission, as httpx takes them."""
    return {"image": ("image.png", image), "mask": ("mask.png", mask)}
