"""What is done to every source picture: upright, sRGB, at most 768 px on its short side, WebP without metadata."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

SHORT_SIDE_PX = 768
QUALITY, EFFORT = 90, 6


def normalized(data: bytes) -> Image.Image:
    """The picture as the training sees it: RGB in sRGB, never enlarged."""
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
    image = _in_srgb(image).convert("RGB")
    scale = SHORT_SIDE_PX / min(image.size)
    if scale < 1:
        width, height = (max(SHORT_SIDE_PX, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image


def _in_srgb(image: Image.Image) -> Image.Image:
    """Converted from the colour space that its ICC profile names, if it carries one."""
    icc = image.info.get("icc_profile")
    if not icc:
        return image
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    if "srgb" in ImageCms.getProfileDescription(profile).lower():
        return image
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB") or image


def write(image: Image.Image, path: Path) -> None:
    bare = Image.frombytes(image.mode, image.size, image.tobytes())  # pixels only: no EXIF, no profile
    bare.save(path, "WEBP", quality=QUALITY, method=EFFORT)
