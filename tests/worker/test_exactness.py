"""Promise 1 through the worker's own code, with noise in place of what a network would paint."""

import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.catalog import ModelEntry
from jobs.schema import InpaintParameters
from worker import masks
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


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@settings(max_examples=120, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    alpha=st.booleans(),
    soft=st.booleans(),
    crop=st.sampled_from(["auto", "off"]),
    grow=st.integers(0, 15),
    feather=st.integers(0, 15),
    padding=st.integers(0, 80),
    n=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_pixel_where_the_effective_mask_is_0_is_byte_equal(
    width: int,
    height: int,
    alpha: bool,
    soft: bool,
    crop: str,
    grow: int,
    feather: int,
    padding: int,
    n: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 4 if alpha else 3), np.uint8)
    left, top = rng.integers(0, width), rng.integers(0, height)
    mask = np.zeros((height, width), np.uint8)
    hole = mask[top : top + rng.integers(1, 120), left : left + rng.integers(1, 120)]
    hole[:] = rng.integers(0, 256, hole.shape) if soft else 255
    hole[0, 0] = 255
    parameters = InpaintParameters.model_validate(
        {
            "model": "tiny", "seed": 1, "n": n, "num_inference_steps": 1, "guidance_scale": 1, "strength": 1,
            "scheduler": "ddim", "masked_content": "original", "crop": crop, "crop_padding": padding,
            "mask_grow": grow, "mask_feather": feather,
        }
    )  # fmt: skip
    task = Task("id", parameters, ENTRY, Stopwatch(0.0))

    canvas = task.open(png(photo), png(mask))
    report = task.close(rng.integers(0, 256, (n, *canvas.image.shape), np.uint8))

    kept = masks.effective_mask(mask, grow, feather) == 0
    assert report.mask.changed_outside_mask == 0
    assert len(task.images) == n
    for data in task.images:
        with Image.open(io.BytesIO(data)) as image:
            result = np.asarray(image)
        assert result.shape == photo.shape
        assert (result[kept] == photo[kept]).all()
        if alpha:
            assert (result[..., 3] >= photo[..., 3]).all()
