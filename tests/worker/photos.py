"""Small photos of noise, in any format."""

import numpy as np

from tests.factories import noise
from worker.pixels.pictures import Picture, Pixels

RGB = noise((20, 30, 3))
GREY = RGB[..., 0]


def layers(picture: Picture) -> Pixels:
    """RGB, with alpha where there is one."""
    return picture.rgb if picture.alpha is None else np.dstack([picture.rgb, picture.alpha])
