"""Photos and masks in every format, made in memory."""

from typing import Any

import numpy as np
from PIL import Image

from tests.factories import encoded

SIZE = (64, 48)
BOX = (16, 8, 40, 32)


def photo(size: tuple[int, int] = SIZE, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(7)
    rgb = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return rgb.convert(mode)


def box_mask(size: tuple[int, int] = SIZE, box: tuple[int, int, int, int] = BOX) -> Image.Image:
    """White in the box, else black."""
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def with_orientation(image: Image.Image, orientation: int, file_format: str = "JPEG", **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, file_format, exif=exif, **options)
