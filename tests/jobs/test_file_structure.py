"""Files of countless parts are refused before a decoder works through them; real files are not."""

import struct
import time
from contextlib import suppress

import pytest
from PIL import Image

from jobs.file_structure import (
    JPEG_FILL_BYTES,
    JPEG_SCANS,
    JPEG_SEGMENTS,
    TIFF_DIRECTORIES,
    TIFF_TAGS,
    Unreasonable,
    check_structure,
    manifest_bytes,
)
from tests.factories import encoded, noise

PICTURE = Image.fromarray(noise((96, 128, 3)))


def segment(marker: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def tiff(tags: dict[int, int], *, directories: int = 1, loop: bool = False) -> bytes:
    """A little-endian TIFF of equal directories with LONG tags."""
    size = 2 + 12 * len(tags) + 4
    data = b"II*\0" + struct.pack("<I", 8)
    for index in range(directories):
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        following = 8 + (index + 1) * size if index + 1 < directories else 8 * loop
        data += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return data


JPEG = encoded(PICTURE, "JPEG")
PNG = encoded(PICTURE, "PNG")
REAL = {
    "baseline": JPEG,
    "progressive": encoded(PICTURE, "JPEG", progressive=True, quality=95),
    "restarts": encoded(PICTURE, "JPEG", restart_marker_blocks=1),
    "profile in segments": encoded(PICTURE, "JPEG", icc_profile=bytes(10_000_000)),
    "exif": encoded(PICTURE, "JPEG", exif=Image.Exif()),
    "png": PNG,
    "webp": encoded(PICTURE, "WEBP"),
    "tiff": encoded(PICTURE, "TIFF"),
    "tiff of strips": encoded(Image.new("L", (8, 9000)), "TIFF", compression="tiff_lzw", tiffinfo={278: 1}),
    "small tiles": tiff({256: 64, 257: 64, 322: 256, 323: 256}),
    "three pages": encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE, PICTURE]),
    "bytes behind the end": PNG + bytes(1_000_000),
    "bytes behind the last chunk": encoded(PICTURE, "WEBP") + bytes(1_000_000),
    "no picture": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_pass_whole_and_cut_short(name: str) -> None:
    data = REAL[name]
    check_structure(data)
    for cut in {1, 3, 9, 17, len(data) // 3, len(data) // 2, len(data) - 1}:
        check_structure(data[:cut])


SCAN = JPEG[JPEG.index(b"\xff\xda") : -2]
HOSTILE = {
    "scans": JPEG[:-2] + SCAN * JPEG_SCANS + b"\xff\xd9",
    "tiny scans": JPEG[:-2] + (segment(0xDA, bytes(10)) + b"\0") * 10_000,
    "segments": JPEG[:2] + segment(0xFE) * JPEG_SEGMENTS + JPEG[2:],
    "segments between scans": JPEG[:-2] + segment(0xFE) * JPEG_SEGMENTS + SCAN + b"\xff\xd9",
    "fill bytes": JPEG[:2] + b"\xff" * (JPEG_FILL_BYTES + 2) + JPEG[2:],
    "fill bytes in pieces": JPEG[:2] + (b"\xff" * 300 + segment(0xFE)) * 5 + JPEG[2:],
    "junk": JPEG[:2] + bytes(JPEG_FILL_BYTES + 1) + JPEG[2:],
    "restarts without end": JPEG[:2] + b"\xff\xd0" * JPEG_SEGMENTS + JPEG[2:],
    "riff chunks": b"RIFF" + struct.pack("<I", 800_004) + b"WEBP" + b"XXXX\0\0\0\0" * 100_000,
    "directories": tiff({256: 8, 257: 8}, directories=TIFF_DIRECTORIES + 1),
    "thousands of directories": tiff({256: 8, 257: 8}, directories=48_000),
    "a loop": tiff({256: 8, 257: 8}, directories=3, loop=True),
    "tags": tiff({10_000 + tag: 1 for tag in range(TIFF_TAGS + 1)}),
    "a tile": tiff({256: 8, 257: 8, 322: 32_768, 323: 16_384}),
    "values": b"II*\0" + struct.pack("<IHHHIII", 8, 1, 273, 4, 2_000_000_000, 8, 0),
    "big tiff": b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_of_countless_parts_is_refused(name: str) -> None:
    with pytest.raises(Unreasonable, match=r"^has "):
        check_structure(HOSTILE[name])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 32_000_000,
        b"\xff\xd8" + bytes(32_000_000),
        b"\xff\xd8" + segment(0xDA, bytes(10)) + b"\xff\0" * 16_000_000,
        b"\xff\xd8" + segment(0xDA, bytes(10)) + b"\xff\xd0" * 16_000_000,
        b"\xff\xd8" + segment(0xDA, bytes(10)) + b"\xff" * 16_000_000 + bytes(16_000_000),
        b"RIFF\xff\xff\xff\x01WEBP" + bytes(32_000_000),
        b"II*\0\x08\0\0\0" + b"\x90\x01" + bytes(32_000_000),
    ],
    ids=["fill", "junk", "stuffing", "restarts", "fill in a scan", "webp", "tiff"],
)
def test_the_pass_itself_is_cheap_whatever_the_file(data: bytes) -> None:
    began = time.process_time()
    with suppress(Unreasonable):
        check_structure(data)
    assert time.process_time() - began < 1.0


def test_filling_behind_a_scan_is_counted() -> None:
    begin = b"\xff\xd8" + segment(0xDA, bytes(10)) + bytes(9)
    check_structure(begin + b"\xff" * (JPEG_FILL_BYTES + 1) + b"\xd9")
    with pytest.raises(Unreasonable, match="bytes of filling"):
        check_structure(begin + b"\xff" * (JPEG_FILL_BYTES + 2) + b"\xd9")


STORE = struct.pack(">I4sI4s", 300, b"jumb", 30, b"jumd") + bytes.fromhex("6332706100110010800000aa00389b71") + b"c2pa"


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 0),
        (STORE[8:], 0),
        (b"x" + STORE, 300),
        (b"xy" + bytes(4) + STORE[4:] + b"z", len(STORE) + 1),
        (b"c2pa", 0),
    ],
)
def test_a_manifests_length_is_read_where_it_stands(data: bytes, size: int) -> None:
    assert manifest_bytes(data) == size
