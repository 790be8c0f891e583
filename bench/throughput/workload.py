"""The requests that every side gets: photos and masks, the same ones in the same order."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DEMO_PHOTO = Path(__file__).parents[2] / "launch" / "sample" / "photo.png"
RIM_PX = 8
"""What a full-size mask leaves at the edge, so that there is something to be kept."""


@dataclass(frozen=True)
class Case:
    """One request: both files as PNG, and both as pixels to check the answer by."""

    image: bytes
    mask: bytes
    pixels: NDArray[np.uint8]  # (H, W, 3)
    hole: NDArray[np.bool_]  # (H, W), True = repaint
    seed: int
    steps: int
    prompt: str = "sand"


def full(steps: int, count: int = 4, size_px: int = 256) -> list[Case]:
    """Square photos, all but a rim of them to be repainted."""
    hole, last = Image.new("L", (size_px, size_px)), size_px - 1 - RIM_PX
    ImageDraw.Draw(hole).rectangle((RIM_PX, RIM_PX, last, last), fill=255)
    return [_case(_photo(size_px, index), hole, index, steps) for index in range(count)]


def realistic(steps: int, count: int = 4) -> list[Case]:
    """Photos of 1024 px, with a blob of 64 to 160 px somewhere in each: a blemish, a sign, a passer-by."""
    rng = np.random.default_rng(7)
    cases = []
    for index in range(count):
        width, height = (int(side) for side in rng.integers(64, 161, 2))
        left, top = (int(rng.integers(0, 1024 - side)) for side in (width, height))
        hole = Image.new("L", (1024, 1024))
        ImageDraw.Draw(hole).ellipse((left, top, left + width - 1, top + height - 1), fill=255)
        cases.append(_case(_photo(1024, index), hole, index, steps))
    return cases


WORKLOADS = {"full": full, "realistic": realistic}


def _photo(size_px: int, index: int) -> Image.Image:
    """The demo photo (even indices, turned a quarter each time) or smooth colours with grain (odd ones)."""
    if index % 2 == 0:
        with Image.open(DEMO_PHOTO) as demo:
            square = demo.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS)
        return square.rotate(90 * (index // 2))
    rng = np.random.default_rng(index)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray(np.clip(smooth + rng.integers(-4, 5, smooth.shape), 0, 255).astype(np.uint8))


def _case(photo: Image.Image, hole: Image.Image, seed: int, steps: int) -> Case:
    pixels, marked = np.asarray(photo), np.asarray(hole) > 0
    return Case(png(photo), png(hole), pixels, marked, seed, steps)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def outside_changed(case: Case, answer: bytes) -> float:
    """The share of the pixels outside the mask that differ from the photo.

    Raises AssertionError for an answer that is no PNG, or not of the photo's size, or left unpainted inside.
    """
    with Image.open(io.BytesIO(answer), formats=("PNG",)) as image:
        painted = np.asarray(image.convert("RGB"))
    assert painted.shape == case.pixels.shape, f"the answer is {painted.shape}, the photo {case.pixels.shape}"
    changed = (painted != case.pixels).any(axis=2)
    assert changed[case.hole].any(), "nothing was repainted"
    return float(changed[~case.hole].mean())
