"""Before and after in one picture, and the count of pixels that should not have changed."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

TINT = (235, 30, 60)
TINT_SHARE = 0.45
BAND_PX = 36
GAP_PX = 12
INK = (40, 40, 40)


def changed_outside_mask(photo: Path, mask: Path, result: Path) -> int:
    """Pixels that differ between ``photo`` and ``result`` where ``mask`` is black; every pixel if the sizes differ."""
    before, after = (np.asarray(Image.open(path).convert("RGBA")) for path in (photo, result))  # (H, W, 4)
    if before.shape != after.shape:
        return int(before.shape[0] * before.shape[1])
    keep = np.asarray(Image.open(mask).convert("L")) == 0  # (H, W)
    return int(np.count_nonzero((before != after).any(axis=2) & keep))


def changed_in_photo(photo: Path, result: Path, left: int, top: int) -> int:
    """Pixels of ``photo`` that differ from ``result``, which is the photo with borders; all where they do not fit."""
    before, after = (np.asarray(Image.open(path).convert("RGBA")) for path in (photo, result))  # (H, W, 4)
    height, width = before.shape[:2]
    inside = after[top : top + height, left : left + width]
    return int(np.count_nonzero((before != inside).any(axis=2))) if inside.shape == before.shape else height * width


def write_side_by_side(photo: Path, mask: Path, removed: Path, extended: Path, target: Path) -> None:
    """Write the photo with the mask tinted and outlined, and the two results beside it, each under its label."""
    pictures = {
        "before: the red part is masked": _tinted(Image.open(photo).convert("RGB"), Image.open(mask).convert("L")),
        "removed": Image.open(removed).convert("RGB"),
        "extended": Image.open(extended).convert("RGB"),
    }
    width = sum(picture.width + GAP_PX for picture in pictures.values()) - GAP_PX
    height = BAND_PX + max(picture.height for picture in pictures.values())
    sheet, x = Image.new("RGB", (width, height), "white"), 0
    for label, picture in pictures.items():
        sheet.paste(picture, (x, BAND_PX))
        ImageDraw.Draw(sheet).text((x + 8, BAND_PX // 2), label, INK, ImageFont.load_default(18), anchor="lm")
        x += picture.width + GAP_PX
    sheet.save(target)


def _tinted(photo: Image.Image, mask: Image.Image) -> Image.Image:
    inside = Image.blend(photo, Image.new("RGB", photo.size, TINT), TINT_SHARE)
    tinted = Image.composite(inside, photo, mask)
    white = mask.point(lambda value: 255 if value else 0)
    edge = Image.composite(
        white, Image.new("L", mask.size), white.filter(ImageFilter.MinFilter(3)).point(lambda v: 255 - v)
    )
    tinted.paste(TINT, mask=edge)
    return tinted
