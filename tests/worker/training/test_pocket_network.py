"""How much of a hole is the embedded model's network, and how much the fill that it paints on: what the docs say."""

from pathlib import Path

import numpy as np
from PIL import Image

from bench.worker_fill import worker_fill
from worker.pixels.fill.texture import fill

DEMO = Path(__file__).parents[3] / "launch/sample"


def test_on_the_demo_photo_the_network_changes_the_fill_by_one_grey_level_in_the_mean() -> None:
    image = np.asarray(Image.open(DEMO / "photo.png").convert("RGB"))
    hole = np.asarray(Image.open(DEMO / "mask.png").convert("L")) > 127
    change = np.abs(worker_fill()(image, hole).astype(int) - fill(image, hole))[hole]
    assert 0.5 < change.mean() < 1.5
    assert change.max() < 20
