"""Files of a few kB that cost seconds or gigabytes where nothing bounds them. Each says what it is after."""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from jobs.formats import HAS_HEIC
from tests.factories import encoded

Files = tuple[bytes, bytes]
"""Photo and mask."""


def grey(width: int, height: int, kind: str = "PNG", **options: Any) -> bytes:
    return encoded(Image.new("L", (width, height), 128), kind, **options)


def half_mask(width: int, height: int) -> bytes:
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, max(1, width // 2), height))
    return encoded(mask, "PNG")


SMALL = encoded(Image.new("RGB", (64, 64), (200, 150, 100)), "PNG")
SMALL_MASK = half_mask(64, 64)


def segment(marker: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG with its last, nearly empty scan again and again: a pass over all coefficients each time."""
    jpeg = grey(width, height, "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + scans * scan + b"\xff\xd9"


def tiff(tags: dict[int, int], directories: int = 1) -> bytes:
    size = 2 + 12 * len(tags) + 4
    data = b"II*\0" + struct.pack("<I", 8)
    for index in range(directories):
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        following = 8 + (index + 1) * size if index + 1 < directories else 0
        data += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return data


def odd_exif() -> bytes:
    """EXIF whose entries contradict their types."""
    entries = [(0x0112, 2, 9, 0x41414141), (0x0131, 3, 70_000, 8), (0x8769, 4, 1, 0), (0x8825, 1, 1, 0xFFFFFFFF)]
    exif = b"II*\0" + struct.pack("<IH", 8, len(entries))
    exif += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    jpeg = encoded(Image.new("RGB", (64, 64), (9, 99, 199)), "JPEG")
    return jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif) + jpeg[2:]


def inflating(kind: bytes) -> bytes:
    """A PNG with a chunk of 200 kB that inflates to 200 MB."""
    return PNG[:33] + chunk(kind, b"k\0\0" + zlib.compress(bytes(200_000_000))) + PNG[33:]


JPEG, PNG = grey(64, 64, "JPEG"), grey(64, 64)

MAKERS: dict[str, Callable[[], Files]] = {
    "photo of 5,000 scans": lambda: (of_scans(6000, 6000, 5_000), half_mask(6000, 6000)),
    "mask of 5,000 scans": lambda: (grey(6000, 6000), of_scans(6000, 6000, 5_000)),
    "photo of 99 scans": lambda: (of_scans(6000, 6000, 80), half_mask(6000, 6000)),
    "mask of 99 scans": lambda: (grey(6000, 6000), of_scans(6000, 6000, 80)),
    "fill bytes": lambda: (JPEG[:2] + b"\xff" * 8_000_000 + JPEG[2:], SMALL_MASK),
    "segments": lambda: (JPEG[:2] + segment(0xFE) * 1_000_000 + JPEG[2:], SMALL_MASK),
    "chunks": lambda: (PNG[:33] + chunk(b"teSt") * 700_000 + PNG[33:], SMALL_MASK),
    "empty pixel chunks": lambda: (SMALL, PNG[:33] + chunk(b"IDAT") * 700_000 + PNG[33:]),
    "directories": lambda: (tiff({256: 64, 257: 64}, 48_000), SMALL_MASK),
    "a tile": lambda: (SMALL, tiff({256: 64, 257: 64, 258: 8, 322: 32_768, 323: 16_384, 324: 8, 325: 64})),
    "webp of 40 megapixels": lambda: (grey(8000, 5000, "WEBP", lossless=True), grey(8000, 5000, "WEBP", lossless=True)),
    "65,535 x 1": lambda: (grey(65_535, 1), half_mask(65_535, 1)),
    "30,000 x 300": lambda: (grey(30_000, 300), half_mask(30_000, 300)),
    "1,000,000 x 1": lambda: (grey(1_000_000, 1), half_mask(1_000_000, 1)),
    "odd exif": lambda: (odd_exif(), SMALL_MASK),
    "inflating text": lambda: (inflating(b"zTXt"), SMALL_MASK),
    "inflating profile": lambda: (inflating(b"iCCP"), SMALL_MASK),
}


def corrupted(count: int, seed: int = 0) -> Iterator[Files]:
    """Valid pairs with bytes flipped, cut, doubled or replaced, in every format; half of them in the mask."""
    rng = np.random.default_rng(seed)
    photo = Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8))
    mask = Image.fromarray(np.where(np.indices((48, 64)).sum(0) < 50, np.uint8(255), np.uint8(0)))
    kinds = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", *(("HEIF",) if HAS_HEIC else ()))
    whole = [(encoded(photo, kind), encoded(mask, kind)) for kind in kinds]
    for index in range(count):
        files = [bytearray(data) for data in whole[int(rng.integers(len(kinds)))]]
        _damage(files[index % 2], rng)
        yield bytes(files[0]), bytes(files[1])


def _damage(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(data)))
        match int(rng.integers(5)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at] = int(rng.integers(256))
            case 2:
                del data[at : at + int(rng.integers(1, 40))]
            case 3:
                data[at:at] = data[at : at + int(rng.integers(1, 40))]
            case _:
                data[at : at + 4] = rng.bytes(4)
        if not data:
            data += b"\0"
