"""ICC profiles for what a PNG's chunks state of its colours: other formats have no such chunks.

Version 4, of a matrix and parametric curves (ICC.1:2022, 8.3 and 8.4; 10.18).
"""

import struct

import numpy as np
from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue, as cHRM has them."""

D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PRIMARIES: dict[int, Chromaticities] = {
    1: SRGB,
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""By their code point (ITU-T H.273, table 2)."""

FULL_RANGE = 1


def gamma_curve(exponent: float) -> bytes:
    """A curve tag: value**exponent is linear light."""
    return b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + _fixed(exponent)


def _straight_below(exponent: float, offset: float, slope: float, limit: float) -> bytes:
    """((value + offset) / (1 + offset))**exponent, and value / slope below ``limit``."""
    numbers = exponent, 1 / (1 + offset), offset / (1 + offset), 1 / slope, limit
    return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + _fixed(*numbers)


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65_536) for number in numbers))


SRGB_CURVE = _straight_below(2.4, 0.055, 12.92, 0.04045)
BT709_CURVE = _straight_below(1 / 0.45, 0.099, 4.5, 0.081)
CURVES = {
    **dict.fromkeys((1, 6, 14, 15), BT709_CURVE),
    4: gamma_curve(2.2),
    5: gamma_curve(2.8),
    8: gamma_curve(1.0),
    13: SRGB_CURVE,
}
"""By their code point (ITU-T H.273, table 3); those of HDR need more than a curve."""


def of_cicp(data: bytes, grey: bool) -> bytes | None:
    """A profile for code points; None for those that none of this kind can express."""
    primaries, transfer, _, value_range = data
    if value_range != FULL_RANGE or primaries not in PRIMARIES or transfer not in CURVES:
        return None
    return profile(PRIMARIES[primaries], CURVES[transfer], grey)


def of_gama_chrm(gama: bytes | None, chrm: bytes | None, grey: bool) -> bytes | None:
    """A profile for one chunk or both; without a gamma the values are as sRGB's. None for primaries of no colours."""
    curve = gamma_curve(100_000 / int.from_bytes(gama)) if gama else SRGB_CURVE
    xy = tuple(number / 100_000 for number in struct.unpack(">8I", chrm)) if chrm else SRGB
    return profile(xy, curve, grey)


def of_grey(found: bytes) -> bytes | None:
    """A profile for three equal values in place of one of grey values; None where that has no curve."""
    for at in range(132, 132 + 12 * int.from_bytes(found[128:132]), 12):
        name, start, size = struct.unpack(">4sII", found[at : at + 12].ljust(12, b"\0"))
        if name == b"kTRC":
            return profile(SRGB, found[start : start + size], grey=False)
    return None


def profile(xy: Chromaticities, curve: bytes, grey: bool) -> bytes | None:
    """``curve``: the tag of all channels. None for chromaticities that span no colours."""
    tags = {b"desc": _text("as the file's chunks"), b"cprt": _text("none"), b"wtpt": _xyz(D50)}
    if grey:
        return _file(b"GRAY", tags | {b"kTRC": curve})
    found = _to_d50(xy)
    if found is None:
        return None
    columns, adaptation = found
    for index, name in enumerate((b"r", b"g", b"b")):
        tags |= {name + b"XYZ": _xyz(columns[:, index]), name + b"TRC": curve}
    return _file(b"RGB ", tags | {b"chad": b"sf32\0\0\0\0" + _fixed(*adaptation.ravel())})


def _to_d50(xy: Chromaticities) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Linear RGB to XYZ under D50, and the adaptation from white to D50, by Bradford's method: (3, 3) each."""
    try:
        with np.errstate(all="raise"):
            white, *colours = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in zip(xy[::2], xy[1::2], strict=True))
            columns = np.array(colours).T
            cones = (BRADFORD @ D50) / (BRADFORD @ white)
            adaptation = np.linalg.inv(BRADFORD) @ np.diag(cones) @ BRADFORD
            to_d50 = adaptation @ (columns * np.linalg.solve(columns, white))
    except (ArithmeticError, np.linalg.LinAlgError):
        return None
    return (to_d50, adaptation) if max(np.abs(to_d50).max(), np.abs(adaptation).max()) < 32_767 else None


def _xyz(values: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _text(text: str) -> bytes:
    """One, in English (10.15)."""
    content = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(content), 28) + content


def _file(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Header, table of tags, and their data, each begun at a multiple of 4 (7.2 and 7.3)."""
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", at + len(body), 0x04400000, b"mntr", space, b"XYZ ", b"acsp")
    head += bytes(28) + _fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
