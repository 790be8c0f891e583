"""The mask as uploaded -> the mask as the worker takes it: 8-bit grey, upright, white = repaint."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from app.uploads import Size, opened
from jobs.errors import EmptyMask, InvalidMask, MaskSizeMismatch
from jobs.schema import MaskMode, MaskReport

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


@dataclass(frozen=True)
class SettledMask:
    png: bytes
    report: MaskReport


def settle_mask(data: bytes, mode: MaskMode, image_size: Size, max_pixels: int) -> SettledMask:
    """Read a mask file by ``mode``; nothing about it is guessed.

    Raises InvalidMask, MaskSizeMismatch, EmptyMask, TooLarge.
    """
    with opened(data, max_pixels, "mask") as image:
        settled = mode == "white" and _is_settled(image)
        upright = ImageOps.exif_transpose(image)
        _check_size(upright.size, image_size)
        mask = _by_alpha(upright) if mode.startswith("alpha") else _by_grey(upright)
    if mode in ("black", "alpha"):  # alpha: transparent is repainted
        mask = 255 - mask
    return SettledMask(data if settled else _encode(mask), _report(mask, mode))


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


def _by_alpha(image: Image.Image) -> Mask:
    """The alpha channel: 0 is transparent."""
    if not image.has_transparency_data:
        raise InvalidMask(
            "mask: mask_mode alpha needs an alpha channel, and this file has none. "
            "Send a PNG with transparency, or say mask_mode=white or black."
        )
    return np.asarray(image.convert("RGBA").getchannel("A"))


def _by_grey(image: Image.Image) -> Mask:
    """The grey values: 0 is black."""
    if image.mode in SIXTEEN_BIT:
        return _from_16_bits(np.asarray(image))
    if image.mode == "F":
        return _from_floats(np.asarray(image))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        _check_opaque(np.asarray(image.getchannel("A")))
    if image.mode == "L":
        return np.asarray(image)
    if image.mode in ("1", "LA"):
        return np.asarray(image.convert("L"))
    return _grey_of(np.asarray(image.convert("RGB")))


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


def _from_16_bits(values: NDArray[np.generic]) -> Mask:
    """0..65535 -> 0..255, rounded."""
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65_535:
        raise InvalidMask("mask: it has 32 bits a pixel. Send 8 or 16 bit grey.")
    return ((wide + 128) // 257).astype(np.uint8)


def _from_floats(values: NDArray[np.floating]) -> Mask:
    """0..1 -> 0..255, rounded."""
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise InvalidMask("mask: its floating-point values leave 0 to 1. Send 8 or 16 bit grey.")
    levels: Mask = np.rint(values * 255).astype(np.uint8)
    return levels


def _report(mask: Mask, mode: MaskMode) -> MaskReport:
    repainted = cv2.countNonZero(mask)
    if not repainted:
        raise EmptyMask(f"mask: read by mask_mode={mode}, it leaves nothing to repaint. {_EMPTY_ADVICE[mode]}")
    left, top, width, height = cv2.boundingRect(mask)
    full = cv2.countNonZero(cv2.inRange(mask, 255, 255))
    return MaskReport(
        mode=mode,
        coverage=repainted / mask.size,
        bbox=(left, top, left + width, top + height),
        soft=repainted != full,
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
