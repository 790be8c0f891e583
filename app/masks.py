"""The mask as uploaded -> the mask as the worker takes it: 8-bit grey, upright, white = repaint."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from app.uploads import Size, opened
from jobs import mask_values
from jobs.errors import DoubtfulMask, EmptyMask, InvalidMask, MaskSizeMismatch
from jobs.schema import MaskMode, MaskReport, MaskScale

Mask = NDArray[np.uint8]

GREY_TOLERANCE = 2
"""Levels by which the channels of a grey JPEG may differ through its chroma coding."""

PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
]
"""For masks: 2 ms a megapixel; OpenCV's own choice of filters takes 9 ms for a file of the same size."""

SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


STRONG = 128
"""A mask whose strongest value is below this leaves open what full strength is: half of it, or another scale."""


@dataclass(frozen=True)
class SettledMask:
    """``leaves_known``: whether any pixel is left that the network is shown as surroundings."""

    png: bytes
    report: MaskReport
    leaves_known: bool


@dataclass(frozen=True)
class Values:
    """A mask's values as the file has them, (H, W), from 0 to ``top``, the largest its format can hold."""

    values: NDArray[Any]
    top: float

    def levels(self, scale: MaskScale) -> Mask:
        """As 0 to 255, rounded; by ``binary`` everything above 0 is 255."""
        if scale == "binary":
            return np.where(self.values > 0, np.uint8(255), np.uint8(0))
        if self.top == 255:
            return np.asarray(self.values, np.uint8)
        if self.top == 1:
            return np.rint(self.values * np.float32(255)).astype(np.uint8)
        return ((self.values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def settle_mask(
    data: bytes, mode: MaskMode, image_size: Size, max_pixels: int, scale: MaskScale = "full"
) -> SettledMask:
    """Read a mask file by ``mode`` and ``scale``; nothing about it is guessed.

    Raises InvalidMask, MaskSizeMismatch, EmptyMask, DoubtfulMask, TooLarge.
    """
    with opened(data, max_pixels, "mask") as image:
        settled = mode == "white" and scale == "full" and _is_settled(image)
        upright = ImageOps.exif_transpose(image)
        _check_size(upright.size, image_size)
        values = _by_alpha(upright) if mode.startswith("alpha") else _by_grey(upright)
        if scale == "full":
            _check_range(values, mode)
        mask = values.levels(scale)
    if mode in ("black", "alpha"):  # alpha: transparent is repainted
        mask = 255 - mask
    mask, snapped = mask_values.snap(mask)
    report = _report(mask, mode, scale, snapped)
    png = data if settled and not snapped else _encode(mask)
    return SettledMask(png, report, leaves_known=not mask_values.hides_everything(mask))


def _check_range(found: Values, mode: MaskMode) -> None:
    """Refuse values that end far from the top of their range: 0 and 1, 0 to 255 in 16 bits, a washed-out grey."""
    largest = found.values.max()
    if 0 < largest < found.top * STRONG / 255:
        kind = "alpha" if mode.startswith("alpha") else "grey"
        raise DoubtfulMask(
            f"mask: its largest {kind} value is {largest:g} of {found.top:g}, so what full strength is stays open. "
            "Send mask_scale=binary if every value above 0 means full strength, or multiply the values so that "
            f"{found.top:g} does."
        )


def _is_settled(image: Image.Image) -> bool:
    """Whether the file, read as white = repaint, is what the worker takes already."""
    upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return image.format == "PNG" and image.mode == "L" and upright and not image.has_transparency_data


def _check_size(mask_size: Size, image_size: Size) -> None:
    if mask_size != image_size:
        mask, image = (f"{width} x {height}" for width, height in (mask_size, image_size))
        raise MaskSizeMismatch(
            f"mask: it is {mask} pixels and the image is {image}, both turned upright by their EXIF orientation. "
            "Send a mask of the image's size."
        )


def _by_alpha(image: Image.Image) -> Values:
    """The alpha channel: 0 is transparent."""
    if not image.has_transparency_data:
        raise InvalidMask(
            "mask: mask_mode alpha needs an alpha channel, and this file has none. "
            "Send a PNG with transparency, or say mask_mode=white or black."
        )
    return Values(_alpha_of(image), 255)


def _alpha_of(image: Image.Image) -> Mask:
    with_alpha = image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")
    return np.asarray(with_alpha.getchannel("A"))


def _by_grey(image: Image.Image) -> Values:
    """The grey values: 0 is black."""
    if image.mode in SIXTEEN_BIT:
        return _wide(np.asarray(image))
    if image.mode == "F":
        return _floats(np.asarray(image))
    if image.has_transparency_data:
        _check_opaque(_alpha_of(image))
    if image.mode == "L":
        return Values(np.asarray(image), 255)
    if image.mode in ("1", "LA"):
        return Values(np.asarray(image.convert("L")), 255)
    return Values(_grey_of(np.asarray(image.convert("RGB"))), 255)


def _check_opaque(alpha: Mask) -> None:
    if alpha.min() < 255:
        raise InvalidMask(
            "mask: parts of it are transparent, so white and black alone do not say what is meant. "
            "Say mask_mode=alpha to repaint what is transparent, or send a mask without transparency."
        )


def _grey_of(rgb: NDArray[np.uint8]) -> Mask:
    """(H, W, 3) -> (H, W), for channels that agree."""
    red, green, blue = (rgb[..., channel] for channel in range(3))
    lowest = np.minimum(np.minimum(red, green), blue)
    highest = np.maximum(np.maximum(red, green), blue)
    if int((highest - lowest).max()) > GREY_TOLERANCE:
        raise InvalidMask(
            "mask: it has colours, and only grey values say how much is repainted. "
            "Send black, white and grey; or paint with transparency and say mask_mode=alpha."
        )
    return np.ascontiguousarray(green)


def _wide(values: NDArray[np.generic]) -> Values:
    """16-bit grey, in whatever type Pillow has it."""
    if values.min() < 0 or values.max() > 65_535:
        raise InvalidMask("mask: it has 32 bits a pixel. Send 8 or 16 bit grey.")
    return Values(values, 65_535)


def _floats(values: NDArray[np.floating]) -> Values:
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise InvalidMask("mask: its floating-point values leave 0 to 1. Send 8 or 16 bit grey.")
    return Values(values, 1)


def _report(mask: Mask, mode: MaskMode, scale: MaskScale, snapped: int) -> MaskReport:
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        raise EmptyMask(f"mask: read by mask_mode={mode}, it leaves nothing to repaint. {_EMPTY_ADVICE[mode]}")
    if (strongest := int(mask.max())) < STRONG:
        raise DoubtfulMask(
            f"mask: read by mask_mode={mode}, no pixel is repainted by more than {strongest} of 255, so the result "
            f"would be the upload or nearly so. {_EMPTY_ADVICE[mode]}"
        )
    return MaskReport(
        mode=mode,
        scale=scale,
        coverage=mask_values.coverage(mask),
        bbox=(left, top, left + width, top + height),
        soft=bool(cv2.countNonZero(cv2.inRange(mask, 1, 254))),
        snapped=snapped,
    )


_EMPTY_ADVICE: dict[MaskMode, str] = {
    "white": "Paint white what is to be repainted; if black means that in this mask, say mask_mode=black.",
    "black": "Paint black what is to be repainted; if white means that in this mask, say mask_mode=white.",
    "alpha": "Make transparent what is to be repainted; if the painted part is, say mask_mode=alpha_inverted.",
    "alpha_inverted": "Make opaque what is to be repainted; if the transparent part is, say mask_mode=alpha.",
}


def _encode(mask: Mask) -> bytes:
    _, png = cv2.imencode(".png", mask, PNG_OPTIONS)
    return png.tobytes()
