"""The baselines paint the picture that the service paints: what is compared is how, not what."""

import numpy as np
from PIL import Image

from bench.baselines.pipeline import Painter
from bench.through_worker import worker_fill


def test_the_naive_pipeline_and_the_service_paint_the_same_hole() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    mask = np.zeros((256, 256), np.uint8)
    mask[64:160, 72:168] = 255  # on the grid of latents: diffusers and the service shrink it alike
    asked = {"strength": 1.0, "guidance_scale": 1.0, "masked_content": "original", "crop": "off"}
    ours = worker_fill(num_inference_steps=3, **asked)(photo, mask > 0)
    theirs = np.asarray(Painter().paint([""], [Image.fromarray(photo)], [Image.fromarray(mask)], [0], 3)[0])
    apart = np.abs(ours.astype(int) - theirs)[mask > 0]
    assert apart.max() <= 1
