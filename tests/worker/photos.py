"""Small photos of noise, in any format."""

import io
from typing import Any

import numpy as np
from PIL import Image

from worker.pictures import Picture, Pixels

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GREY = RGB[..., 0]


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def layers(picture: Picture) -> Pixels:
    """RGB, with alpha where there is one."""
    return picture.rgb if picture.alpha is None else np.dstack([picture.rgb, picture.alpha])
