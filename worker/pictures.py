"""Uploads as pixels: upright, 8 bits a channel, alpha and colour profile kept aside.

"The decoded input" of the exactness promise is what ``decode`` returns. RGB values are never converted: their colour
profile is carried over to the result. Only what PNG cannot hold as it is becomes sRGB (CMYK) or 8 bit (16 bit).
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from jobs.errors import Undecodable

Pixels = NDArray[np.uint8]

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")
"""Pillow's modes of 16-bit grey. "I" could hold 32 bits; the API takes it with 16-bit values only."""


@dataclass(frozen=True)
class Picture:
    """rgb: (H, W, 3); alpha: (H, W) or None, both uint8; icc_profile: of RGB values that are not plain sRGB."""

    rgb: Pixels
    alpha: Pixels | None
    icc_profile: bytes | None

    @property
    def pixels(self) -> Pixels:
        """(H, W, 3), or (H, W, 4) with alpha."""
        return self.rgb if self.alpha is None else np.dstack([self.rgb, self.alpha])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[1], self.rgb.shape[0]


def decode(data: bytes) -> Picture:
    """Decode an uploaded picture. Raises Undecodable; the API has checked that it is whole, so this is rare."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return _picture(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Undecodable(f"The image in the store cannot be decoded: {error}") from error


def decode_mask(data: bytes) -> Pixels:
    """Decode a settled mask: (H, W), uint8, white = repaint. Raises Undecodable."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise Undecodable(f"The mask in the store cannot be decoded: {error}") from error


def _picture(image: Image.Image) -> Picture:
    profile = image.info.get("icc_profile")
    if image.mode in SIXTEEN_BIT:
        image = _to_8_bit(image)
    has_alpha = image.has_transparency_data
    if image.mode in ("CMYK", "YCbCr"):
        image, profile = _to_srgb(image, profile), None
    elif image.mode in ("1", "L", "LA", "La"):
        profile = None  # a grey profile does not describe RGB values
    rgba = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    alpha = np.ascontiguousarray(rgba[..., 3]) if has_alpha else None
    return Picture(np.ascontiguousarray(rgba[..., :3]), alpha, profile)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits, rounded: 65535 becomes 255."""
    return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """By the embedded profile where there is a usable one, else by Pillow's plain formula."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted if converted is not None else image.convert("RGB")
        except ImageCms.PyCMSError:
            pass
    return image.convert("RGB")
