"""The baselines paint the picture that the service paints: what is compared is how, not what."""

from typing import Any

import numpy as np
from PIL import Image

from bench.baselines.pipeline import Pipeline
from bench.worker_fill import worker_fill
from tests.factories import mask_with, noise


def test_the_naive_pipeline_and_the_service_paint_the_same_hole() -> None:
    photo = noise((8, 8, 3)).repeat(32, axis=0).repeat(32, axis=1)
    mask = mask_with(np.s_[64:160, 72:168], (256, 256))  # on the grid of latents: all shrink it alike
    asked: dict[str, Any] = {"strength": 1.0, "guidance_scale": 1.0, "masked_content": "original", "crop": "off"}
    ours = worker_fill(num_inference_steps=3, **asked)(photo, mask > 0)
    theirs = np.asarray(Pipeline().paint([""], [Image.fromarray(photo)], [Image.fromarray(mask)], [0], 3)[0])
    apart = np.abs(ours.astype(int) - theirs)[mask > 0]
    assert apart.max() <= 1
