"""Small ICC profiles, made byte by byte (ICC.1:2001-04): RGB and grey with a gamma, CMYK by a table."""

import struct

import numpy as np
from numpy.typing import NDArray

D50 = (0.9642, 1.0, 0.8249)

DISPLAY_P3 = ((0.3127, 0.3290), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
"""White, red, green, blue: x, y."""

BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def grey_profile(gamma: float, padding: int = 0) -> bytes:
    return _profile(b"GRAY", {b"wtpt": _xyz(D50), b"kTRC": _curve(gamma)}, padding)


def rgb_profile(gamma: float, padding: int = 0) -> bytes:
    """Display P3's primaries and a gamma."""
    columns = to_d50(DISPLAY_P3)
    tags = {b"wtpt": _xyz(D50)}
    for index, name in enumerate((b"r", b"g", b"b")):
        tags |= {name + b"XYZ": _xyz(tuple(columns[:, index])), name + b"TRC": _curve(gamma)}
    return _profile(b"RGB ", tags, padding)


def cmyk_profile(padding: int = 0) -> bytes:
    """Inks that darken their lightness: cyan towards green, magenta towards red, yellow towards yellow."""
    grid = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)  # last ink fastest
    cyan, magenta, yellow, black = grid.T
    light = 100 * (1 - 0.4 * cyan) * (1 - 0.5 * magenta) * (1 - 0.1 * yellow) * (1 - 0.9 * black)
    table = np.stack([light * 2.55, 128 - 20 * cyan + 20 * magenta, 128 + 20 * yellow - 15 * cyan], axis=-1)
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65_536 * (row == column) for row in range(3) for column in range(3)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table.round().astype(np.uint8).tobytes()
    return _profile(b"CMYK", {b"wtpt": _xyz(D50), b"A2B0": lut + ramp * 3}, padding, b"Lab ", b"prtr")


def to_d50(primaries: tuple[tuple[float, float], ...]) -> NDArray[np.float64]:
    """Linear RGB to XYZ under D50, adapted by Bradford's method: (3, 3)."""
    white, *colours = ([x / y, 1, (1 - x - y) / y] for x, y in primaries)
    columns = np.array(colours).T
    to_xyz = columns * np.linalg.solve(columns, white)
    cones = (BRADFORD @ D50) / (BRADFORD @ white)
    adapted: NDArray[np.float64] = np.linalg.inv(BRADFORD) @ np.diag(cones) @ BRADFORD @ to_xyz
    return adapted


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _profile(
    space: bytes, tags: dict[bytes, bytes], padding: int, pcs: bytes = b"XYZ ", kind: bytes = b"mntr"
) -> bytes:
    """``padding``: bytes of noise in a private tag, which do not compress."""
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    noise = np.random.default_rng(0).integers(0, 256, padding, np.uint8).tobytes()
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", **tags} | (
        {b"nois": b"data\0\0\0\0" + noise} if padding else {}
    )
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s", at + len(body), 0x02400000, kind, space, pcs, b"acsp")
    head += bytes(28) + struct.pack(">3i", *(round(value * 65_536) for value in D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body
