"""TIFFs of one uncompressed strip, or of one for each plane, with any tags (TIFF 6.0, section 2)."""

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

BITS, PHOTOMETRIC, ORIENTATION, PLANES, TRANSFER_FUNCTION = 258, 262, 274, 284, 301
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
"""Photometric interpretations."""


def tiff_of(samples: NDArray[np.generic], photometric: int, tags: Mapping[int, tuple[int, ...]] | None = None) -> bytes:
    """Write ``samples``, (H, W) or (H, W, C), in their own byte order. ``tags`` win over those that follow from them.

    With the tag ``PLANES`` of (2,) every channel is a strip of its own.
    """
    tags = tags or {}
    channels = samples.shape[2] if samples.ndim == 3 else 1
    separate = tags.get(PLANES) == (2,)
    strips = [samples[..., channel] for channel in range(channels)] if separate else [samples]
    return _file(
        [strip.tobytes() for strip in strips],
        {
            256: (samples.shape[1],),
            257: (samples.shape[0],),
            BITS: (samples.dtype.itemsize * 8,) * channels,
            259: (1,),  # not compressed
            PHOTOMETRIC: (photometric,),
            277: (channels,),
            278: (samples.shape[0],),
            **tags,
        },
        ">" if samples.dtype.byteorder == ">" else "<",
    )


def _file(strips: list[bytes], tags: dict[int, tuple[int, ...]], order: str) -> bytes:
    """Header, strips, long values, directory."""
    data, offsets = b"", []
    for strip in strips:
        offsets.append(8 + len(data))
        data += strip + bytes(len(strip) % 2)
    tags = tags | {273: tuple(offsets), 279: tuple(map(len, strips))}
    entries = b""
    for tag in sorted(tags):
        kind, size = ("I", 4) if tag in (273, 279) else ("H", 2)
        values = struct.pack(f"{order}{len(tags[tag])}{kind}", *tags[tag])
        if len(values) > 4:
            at, data = 8 + len(data), data + values
            values = struct.pack(f"{order}I", at)
        entries += struct.pack(f"{order}HHI", tag, {2: 3, 4: 4}[size], len(tags[tag])) + values.ljust(4, b"\0")
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return header + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
