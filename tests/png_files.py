"""PNGs of any bit depth and with any chunks, made byte by byte."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from jobs.png_chunks import SIGNATURE, chunk

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""Colour types (PNG specification, 11.2.1)."""

Chunks = list[tuple[bytes, bytes]]


def png_of(samples: NDArray[np.integer], bits: int, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """``samples``: (H, W) or (H, W, C), each below 2**bits. ``chunks`` come before the pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits == 16:
        packed = rows.astype(">u2").view(np.uint8)
    elif bits == 8:
        packed = rows.astype(np.uint8)
    else:
        places = np.unpackbits(rows.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
        packed = np.packbits(places.reshape(height, -1), axis=1)
    lines = np.hstack([np.zeros((height, 1), np.uint8), packed]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return written([(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")])


def written(chunks: Chunks) -> bytes:
    return SIGNATURE + b"".join(chunk(kind, data) for kind, data in chunks)


def chunks_of(png: bytes) -> Chunks:
    """Kind and data of every chunk."""
    found, at = [], len(SIGNATURE)
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def with_chunks(png: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """The file with these chunks behind its header, in place of its own of their kinds."""
    header, *others = chunks_of(png)
    kinds = {kind for kind, _ in chunks}
    return written([header, *chunks, *(pair for pair in others if pair[0] not in kinds)])


def zipped(text: bytes, keyword: bytes = b"Comment") -> tuple[bytes, bytes]:
    """A zTXt chunk."""
    return b"zTXt", keyword + b"\0\0" + zlib.compress(text)


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"icc\0\0" + zlib.compress(profile)
