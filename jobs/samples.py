"""A decoded file's samples, with all their bits, reduced to 8 bits by one rule: rounded, and white stays white.

Here, because both sides ask: the worker for photos, the API for masks.

Pillow keeps the upper byte of 16-bit colour. Its name for the raw data ends in their byte order; read in the opposite
order, its upper byte is the lower one.
"""

import io
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

Samples = NDArray[np.generic]

GREY_16 = ("I;16", "I;16B", "I;16L")
GREY_MODES = ("1", "L", "LA", "La")
BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339
WHITE_IS_ZERO, SEPARATE, SIGNED = 0, 2, 2
"""TIFF tags, and values of the last three (TIFF 6.0)."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation: what makes the picture upright. From 5 on width and height are swapped."""

BAND_PX = 64
"""Rows that are reduced at a time."""


class Unreadable(ValueError):
    """The samples cannot be read, or what white is would be a guess; the text says why and what to send instead."""


@dataclass(frozen=True)
class Layers:
    """Grey or colours, (H, W) or (H, W, 3), and alpha, (H, W) or None; all from 0 to ``top``."""

    colours: NDArray[np.generic]
    alpha: NDArray[np.generic] | None
    top: int


def check_layout(image: Image.Image) -> None:
    """Raise Unreadable for samples that cannot be read, of a file that Pillow has opened."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if image.mode == "I" or SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise Unreadable("the file has signed values or 32 bits a pixel. Send 8 or 16 bits a channel, unsigned.")
    if tags.get(PLANES) == SEPARATE and tags.get(BITS, (1,))[0] > 8:
        raise Unreadable(
            "the TIFF has 16 bits a channel in separate planes, which is not supported. "
            "Save it with interleaved channels."
        )


def bits_of(image: Image.Image, data: bytes) -> int:
    """Bits a channel, of a file that Pillow has opened."""
    if image.format == "PNG":
        return data[24]  # in the header, which comes first (PNG specification, 11.2.1)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(BITS, (1,))[0])  # Pillow takes files whose channels have the same number
    return 8


def in_8_bits(image: Image.Image, data: bytes, transparent: bytes | None = None) -> Image.Image:
    """The picture in 8 bits a channel.

    Args:
        image: as Pillow opened it from ``data``.
        data: the file.
        transparent: the tRNS chunk of a grey or RGB PNG, which names the transparent colour in the file's bits.
    """
    bits = bits_of(image, data)
    if bits > 8:
        return _wide_in_8_bits(_wide(image, data), image.mode, transparent, bits)
    return _with_alpha(image, transparent, bits)


def in_16_bits(image: Image.Image, data: bytes, transparent: bytes | None, orientation: int) -> Samples:
    """The upright picture's values, (H, W, C), uint16: grey or colours, and alpha where it has one.

    Args:
        image: as Pillow opened it from ``data``, of 16 bits a channel.
        orientation: by EXIF.
    """
    samples = _wide(image, data)
    samples = samples.reshape(*samples.shape[:2], -1)
    if transparent is not None and image.mode in ("RGB", *GREY_16):
        samples = np.dstack([samples, _alpha(samples, transparent, 16) * np.uint16(257)])
    if orientation in TURNS and image.format != "TIFF":  # which Pillow has turned
        samples = np.ascontiguousarray(turned(samples, orientation))
    return samples


def rounded_image(samples: Samples) -> Image.Image:
    """What ``in_16_bits`` returned, in 8 bits."""
    return _as_image(_rounded(samples, 65_535), None)


def turned(samples: Samples, orientation: int) -> Samples:
    """(H, W, C) made upright, as ``TURNS`` does with pictures; a view."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    down, across = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return samples[:: -1 if down else 1, :: -1 if across else 1]


def _with_alpha(image: Image.Image, transparent: bytes | None, bits: int) -> Image.Image:
    """A picture of up to 8 bits, with an alpha channel where a tRNS chunk names the transparent colour."""
    if transparent is None or image.mode not in ("1", "L", "RGB"):
        return image
    samples = np.asarray(image.convert("L") if image.mode == "1" else image)
    return _as_image(np.dstack([samples, _alpha(samples, transparent, bits)]), None)


def _wide_in_8_bits(samples: Samples, mode: str, transparent: bytes | None, bits: int) -> Image.Image:
    flat = _rounded(samples, 2**bits - 1)
    if transparent is not None and mode in ("RGB", *GREY_16):
        flat = np.dstack([flat, _alpha(samples, transparent, bits)])
    return _as_image(flat, "CMYK" if mode == "CMYK" else None)


def layers(image: Image.Image, transparent: bytes | None = None, bits: int = 8, white_is_zero: bool = False) -> Layers:
    """Of a picture, or a part of it, of up to 8 ``bits`` or in floating point; CMYK as RGB.

    ``white_is_zero``: of floating-point values, which Pillow takes for black; others it turns itself.
    """
    if image.mode == "F":
        values = np.asarray(image)
        return Layers(1 - values if white_is_zero else values, None, 1)
    flat = _with_alpha(image, transparent, bits)
    has_alpha = flat.has_transparency_data
    found = np.asarray(flat.convert(("L" if flat.mode in GREY_MODES else "RGB") + "A" * has_alpha))
    return _split(found, 255) if has_alpha else Layers(found, None, 255)


def wide_layers(samples: Samples, mode: str, transparent: bytes | None, bits: int) -> Layers:
    """Of the samples of a picture of Pillow's ``mode``, or a part of it, of more than 8 ``bits``; CMYK as RGB in 8."""
    if mode == "CMYK":
        return layers(_wide_in_8_bits(samples, mode, transparent, bits))
    top = 2**bits - 1
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        return _split(samples, top)
    alpha = None if transparent is None else np.where(_alpha(samples, transparent, bits), np.uint16(top), np.uint16(0))
    return Layers(samples, alpha, top)


def _split(samples: Samples, top: int) -> Layers:
    """(H, W, 2) or (H, W, 4), alpha last."""
    grey = samples.shape[2] == 2
    return Layers(samples[..., 0] if grey else samples[..., :3], samples[..., -1], top)


def is_white_zero(image: Image.Image) -> bool:
    """Of a file that Pillow has opened."""
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO


def upright(pixels: Image.Image, opened: Image.Image, orientation: int) -> Image.Image:
    """The pixels of a file that Pillow ``opened`` turned by its EXIF ``orientation``; TIFFs are turned by Pillow."""
    turned = orientation in TURNS and opened.format != "TIFF"
    return pixels.transpose(TURNS[orientation]) if turned else pixels


def _as_image(flat: NDArray[np.uint8], mode: str | None) -> Image.Image:
    """(H, W) to grey, (H, W, 2) to grey with alpha, (H, W, 3) to RGB, (H, W, 4) to RGB with alpha, or to ``mode``."""
    channels = flat.shape[2] if flat.ndim == 3 else 1
    size = flat.shape[1], flat.shape[0]
    return Image.frombytes(mode or {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels], size, flat.tobytes())


def _wide(image: Image.Image, data: bytes) -> Samples:
    """(H, W) or (H, W, C), uint16, white = 2**bits - 1, as many channels as the mode has."""
    if image.mode in GREY_16:
        return joined(image, iter([np.asarray(image)]))
    return joined(image, (_read(data, raw_mode) for raw_mode in raw_modes(image) if raw_mode))


def raw_modes(image: Image.Image) -> tuple[str | None, ...]:
    """What the raw data of a file with more than 8 bits has to be taken for, each in turn, so that no bit is lost."""
    if image.mode in GREY_16:
        return (None,)
    assert isinstance(image, ImageFile.ImageFile)
    raw = _raw_mode(image)
    if raw.startswith("LA"):  # 4 bytes a pixel, as RGBA has
        return ("RGBA",)
    big = raw.endswith("B") or (raw.endswith("N") and sys.byteorder == "big")
    layout = raw[:-1].replace("RGBa", "RGBA")
    return (layout + "B", layout + "L") if big else (layout + "L", layout + "B")


def joined(image: Image.Image, parts: Iterator[NDArray[Any]]) -> Samples:
    """``_wide``, of what was decoded by each of ``raw_modes``, or of the same rows of each."""
    first = next(parts).astype(np.uint16)
    if image.mode in GREY_16:
        return ~first if is_white_zero(image) else first  # Pillow takes it for black
    assert isinstance(image, ImageFile.ImageFile)
    raw = _raw_mode(image)
    if raw.startswith("LA"):
        return first[..., 0::2] << 8 | first[..., 1::2]
    first <<= 8
    first |= next(parts)
    return _unmultiplied(first) if raw.startswith("RGBa") else first


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for the layout of the file's raw data, such as ``RGB;16B``."""
    arguments = image.tile[0].args
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def relabel(image: ImageFile.ImageFile, raw_mode: str) -> None:
    """Have a file that is not decoded yet decoded with its raw data taken for ``raw_mode``."""
    image.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in image.tile
    ]


def _read(data: bytes, raw_mode: str) -> Samples:
    with Image.open(io.BytesIO(data)) as image:
        assert isinstance(image, ImageFile.ImageFile)
        relabel(image, raw_mode)
        return np.asarray(image)


def _unmultiplied(samples: Samples) -> Samples:
    """Undo the multiplication of (H, W, 4) colours by their alpha, rounded."""
    result = samples.copy()
    for top in range(0, len(samples), BAND_PX):
        band = samples[top : top + BAND_PX].astype(np.uint32)
        alpha = np.maximum(band[..., 3:], 1)
        result[top : top + BAND_PX, :, :3] = np.minimum((band[..., :3] * 65_535 + alpha // 2) // alpha, 65_535)
    return result


def _rounded(samples: Samples, white: int) -> NDArray[np.uint8]:
    """0..white to 0..255."""
    table = ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)
    flat = np.empty(samples.shape, np.uint8)
    for top in range(0, len(samples), BAND_PX):
        flat[top : top + BAND_PX] = table[samples[top : top + BAND_PX]]
    return flat


def _alpha(samples: Samples, transparent: bytes, bits: int) -> NDArray[np.uint8]:
    """0 where all samples of a pixel are those of the tRNS chunk, else 255 (PNG specification, 11.3.1.1).

    Only the lowest ``bits`` bits count. Pillow spreads samples of fewer than 8 bits over 0..255.
    """
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    scale = 255 // (2**bits - 1) if bits < 8 else 1
    key = [(value & (2**bits - 1)) * scale for value in struct.unpack(f">{channels}H", transparent[: 2 * channels])]
    same = samples.reshape(*samples.shape[:2], channels) == np.array(key, samples.dtype)
    return np.where(same.all(axis=2), np.uint8(0), np.uint8(255))
