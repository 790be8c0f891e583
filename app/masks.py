"""The mask as uploaded -> the mask as the worker takes it: 8-bit grey, upright, white = repaint."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from app.uploads import SIDEWAYS, Size, opened
from jobs import mask_values, png_chunks, samples
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

BAND_PX = 64
"""Rows that are compared at a time."""

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
    top: int

    def levels(self, scale: MaskScale) -> Mask:
        """As 0 to 255, rounded; by ``binary`` everything above 0 is 255."""
        if scale == "binary":
            return np.where(self.values > 0, np.uint8(255), np.uint8(0))
        if self.top == 255:
            return np.asarray(self.values, np.uint8)
        if self.top == 1:
            return np.rint(self.values * np.float32(255)).astype(np.uint8)
        return ((self.values.astype(np.uint32) * 255 + self.top // 2) // self.top).astype(np.uint8)


def settle_mask(
    data: bytes, mode: MaskMode, image_size: Size, max_pixels: int, scale: MaskScale = "full"
) -> SettledMask:
    """Read a mask file by ``mode`` and ``scale``; nothing about it is guessed.

    Raises InvalidMask, MaskSizeMismatch, EmptyMask, DoubtfulMask, TooLarge.
    """
    with opened(data, max_pixels, "mask") as image:
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)  # PNG's own decodes the pixels
        turned = orientation in SIDEWAYS and image.format != "TIFF"  # which Pillow turns itself
        _check_size(image.size[::-1] if turned else image.size, image_size)
        settled = mode == "white" and scale == "full" and orientation == 1 and _is_settled(image)
        lossy = _is_lossy(image, data)
        values = _values(image, data, mode)
        mask = np.asarray(samples.upright(Image.fromarray(values.levels(scale)), image, orientation))
    if scale == "full":
        _check_range(values, mode)
    if mode in ("black", "alpha"):  # alpha: transparent is repainted
        mask = 255 - mask
    mask, snapped = mask_values.snap(mask, lossy)
    report = _report(mask, mode, scale, snapped)
    png = data if settled and not snapped else _encode(mask)
    return SettledMask(png, report, leaves_known=not mask_values.hides_everything(mask))


def _values(image: Image.Image, data: bytes, mode: MaskMode) -> Values:
    """What ``mode`` reads: grey values, 0 is black, or the alpha channel, 0 is transparent."""
    if image.mode == "F" and not mode.startswith("alpha"):
        return _floats(image)
    layers = samples.layers(image, png_chunks.decodable(data), png_chunks.appearance(data).get(b"tRNS"))
    if mode.startswith("alpha"):
        return _alpha(layers)
    if layers.alpha is not None:
        _check_opaque(layers.alpha, layers.top)
    grey = layers.colours if layers.colours.ndim == 2 else _grey_of(layers.colours, layers.top)
    return Values(grey, layers.top)


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
    """Whether the file, if it is upright and read as white = repaint, is what the worker takes already."""
    return image.format == "PNG" and image.mode == "L" and not image.has_transparency_data


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    """Whether the values next to an edge are not those that were saved."""
    return image.format in ("JPEG", "MPO") or (image.format == "WEBP" and b"VP8L" not in data)


def _check_size(mask_size: Size, image_size: Size) -> None:
    if mask_size != image_size:
        mask, image = (f"{width} x {height}" for width, height in (mask_size, image_size))
        raise MaskSizeMismatch(
            f"mask: it is {mask} pixels and the image is {image}, both turned upright by their EXIF orientation. "
            "Send a mask of the image's size."
        )


def _alpha(layers: samples.Layers) -> Values:
    if layers.alpha is None:
        raise InvalidMask(
            "mask: mask_mode alpha needs an alpha channel, and this file has none. "
            "Send a PNG with transparency, or say mask_mode=white or black."
        )
    return Values(layers.alpha, layers.top)


def _check_opaque(alpha: NDArray[Any], top: int) -> None:
    if alpha.min() < top:
        raise InvalidMask(
            "mask: parts of it are transparent, so white and black alone do not say what is meant. "
            "Say mask_mode=alpha to repaint what is transparent, or send a mask without transparency."
        )


def _grey_of(rgb: NDArray[Any], top: int) -> NDArray[Any]:
    """(H, W, 3) -> (H, W), for channels that agree."""
    for row in range(0, len(rgb), BAND_PX):  # not a picture of differences, but a band at a time
        red, green, blue = (rgb[row : row + BAND_PX, :, channel] for channel in range(3))
        lowest = np.minimum(np.minimum(red, green), blue)
        highest = np.maximum(np.maximum(red, green), blue)
        if int((highest - lowest).max()) > GREY_TOLERANCE * top // 255:
            raise InvalidMask(
                "mask: it has colours, and only grey values say how much is repainted. "
                "Send black, white and grey; or paint with transparency and say mask_mode=alpha."
            )
    return np.ascontiguousarray(rgb[..., 1])


def _floats(image: Image.Image) -> Values:
    values = np.asarray(image)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise InvalidMask("mask: its floating-point values leave 0 to 1. Send 8 or 16 bit grey.")
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    return Values(1 - values if tags.get(samples.PHOTOMETRIC) == samples.WHITE_IS_ZERO else values, 1)


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
