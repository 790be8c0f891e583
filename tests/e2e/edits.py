"""What an edit of the sample photo may change, and the forms in which its hole is sent."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from tests.factories import png

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def with_hole(photo: Pixels, hole: Pixels) -> bytes:
    """Transparent where it is to be edited, as OpenAI's own masks."""
    return png(np.dstack([photo, 255 - hole]))


def opened(data: str) -> Pixels:
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGB"))


def assert_only_the_hole_changed(result: Pixels, photo: Pixels, hole: Pixels) -> None:
    assert result.shape == photo.shape
    assert (result[hole == 0] == photo[hole == 0]).all()
    assert (result[hole == 255] != photo[hole == 255]).any()
