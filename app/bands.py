"""A mask's pixels, decoded into memory of ours and read in bands: 8 bits a channel cost 4 bytes a pixel, and no copy.

What is made of a band is written to the front of the same memory; what lies behind it is given back at the end. Some
decoders hold more of their own: ``docs/design/sandbox.md``. Pillow's for WebP makes four pictures of 4 bytes a pixel;
OpenCV's gives the same pixels and makes two, of a byte a channel.
"""

import io
import mmap
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from jobs import png_chunks, samples
from jobs.formats import PILLOW_FORMATS
from jobs.samples import Layers

BAND_PX = 2**16
"""Pixels that are read at a time."""

PIXEL_BYTES = dict.fromkeys(("L", "P"), 1) | dict.fromkeys(samples.GREY_16, 2)
"""What a pixel takes where Pillow decodes into memory of others, by its mode; 4 bytes in any other mode."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Decoded:
    """A picture as the file has it, not turned, of whose ``image`` the pixels are in ``memory``."""

    image: Image.Image
    memory: mmap.mmap

    def rows(self, rows: slice) -> Image.Image:
        return self.image.crop((0, rows.start, self.image.width, rows.stop))


@dataclass(frozen=True)
class Pixels:
    """A picture as the file has it, not turned, to be read once from its first row to its last.

    Args:
        size: width and height.
        read: gives rows.
        memory: where they lie, to be overwritten; none where they lie in memory of OpenCV's.
    """

    size: tuple[int, int]
    read: Callable[[slice], Layers]
    memory: mmap.mmap | None

    def reduced(self, make: Callable[[Layers], Bytes]) -> Bytes:
        """(H, W) of what ``make`` makes of each band, (h, W)."""
        width, height = self.size
        made = np.empty(width * height, np.uint8) if self.memory is None else np.frombuffer(self.memory, np.uint8)
        step = max(1, BAND_PX // width)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            made[rows.start * width : rows.stop * width] = make(self.read(rows)).reshape(-1)
        if self.memory is not None:
            _give_back(self.memory, width * height)
        return made[: width * height].reshape(height, width)


def pixels_of(image: Image.Image, data: bytes) -> Pixels:
    """Decode the file ``data``, of which Pillow has opened ``image`` in memory and decoded nothing.

    Grey and colours in all their bits, those of CMYK as RGB in 8 bits; floating-point values as they are. Raises
    whatever a decoder does.
    """
    if image.format == "WEBP" and (found := decoded_webp(image, data)).shape[2] >= len(image.getbands()):
        return _webp_pixels(image, found)
    assert isinstance(image, ImageFile.ImageFile) and isinstance(image.fp, io.BytesIO)
    file, transparent = image.fp.getvalue(), png_chunks.appearance(data).get(b"tRNS")
    bits = samples.bits_of(image, file)
    if image.mode == "F" or bits <= 8:
        decoded, white_is_zero = decode(file), samples.is_white_zero(image)
        return Pixels(
            decoded.image.size,
            lambda rows: samples.layers(decoded.rows(rows), transparent, bits, white_is_zero),
            decoded.memory,
        )
    parts = [decode(file, raw_mode) for raw_mode in samples.raw_modes(image)]
    return Pixels(
        parts[0].image.size,
        lambda rows: samples.wide_layers(
            samples.joined(image, (np.asarray(part.rows(rows)) for part in parts)), image.mode, transparent, bits
        ),
        parts[0].memory,
    )


def decode(data: bytes, raw_mode: str | None = None) -> Decoded:
    """Decode a file into memory of its own; ``raw_mode``: what to take its raw data for, in Pillow's names."""
    with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
        assert isinstance(image, ImageFile.ImageFile)
        if raw_mode:
            samples.relabel(image, raw_mode)
        if image.format == "TIFF":
            image.getexif()[ExifTags.Base.Orientation] = 1  # or Pillow turns it, in two copies
        width, height = stored_size(image)
        stride = width * PIXEL_BYTES.get(image.mode, 4)
        memory = _new_memory(stride * height)
        mapped = Image.core.map_buffer(memory, (width, height), "raw", 0, (image.mode, stride, 1))  # type: ignore[attr-defined]
        image.im = mapped
        image.load()
        image._size = width, height
        return Decoded(image, memory)


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the rows in the file. Of a TIFF Pillow tells those of the upright picture."""
    return image._tile_size if isinstance(image, TiffImagePlugin.TiffImageFile) else image.size


def decoded_webp(image: Image.Image, data: bytes, *, grey: bool = False) -> Bytes:
    """(H, W, 3) or (H, W, 4) in OpenCV's order, blue first; or (H, W), which takes less memory. Raises ValueError.

    Of ``image``, which Pillow has opened from ``data``, only the header can be read afterwards.
    """
    image._decoder = None  # type: ignore[attr-defined]  # it has 8 bytes of address space a pixel
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION if grey else cv2.IMREAD_UNCHANGED
    found = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if found is None:
        raise ValueError("no WebP, or a damaged one")
    return np.asarray(found, np.uint8)


def _webp_pixels(image: Image.Image, found: Bytes) -> Pixels:
    """``found`` has an alpha channel also where the file says that it has none; ``image`` says which it is."""

    def read(rows: slice) -> Layers:
        band = found[rows]
        return Layers(band[..., 2::-1], band[..., 3] if image.mode == "RGBA" else None, 255)

    return Pixels((found.shape[1], found.shape[0]), read, None)


def _new_memory(size_bytes: int) -> mmap.mmap:
    """Zeros. Raises MemoryError."""
    try:
        return mmap.mmap(-1, size_bytes)
    except OSError as error:
        raise MemoryError from error


def _give_back(memory: mmap.mmap, kept_bytes: int) -> None:
    """Have the pages behind ``kept_bytes`` hold zeros, for which no memory is needed."""
    begin = -(-kept_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    if begin < len(memory):
        memory.madvise(mmap.MADV_DONTNEED, begin, len(memory) - begin)
