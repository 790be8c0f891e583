"""How a file looks: its pixels as CIELAB under D50, by what it says of their colours. Not by the worker's code."""

import io
import struct
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from jobs.png_chunks import SIGNATURE
from tests.icc_profiles import D50, DISPLAY_P3, to_d50
from tests.png_files import chunks_of, written

Lab = NDArray[np.float64]

SRGB = ((0.3127, 0.3290), (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
BT2020 = ((0.3127, 0.3290), (0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
ADOBE = ((0.3127, 0.3290), (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
CICP_PRIMARIES = {1: SRGB, 9: BT2020, 12: DISPLAY_P3}


def displayed(data: bytes) -> Lab:
    """(H, W, 3): L, a, b. A PNG without a statement of its own is looked at by its EXIF, as other formats are."""
    chunks = dict(reversed(chunks_of(data))) if data.startswith(SIGNATURE) else {}
    if ({b"cICP", b"sRGB", b"gAMA", b"cHRM"} & set(chunks) and b"iCCP" not in chunks) or b"cICP" in chunks:
        return _by_chunks(_values(data), chunks)
    profile = zlib.decompress(chunks[b"iCCP"].partition(b"\0")[2][1:]) if b"iCCP" in chunks else None
    with Image.open(io.BytesIO(_plain(data))) as image:
        if profile := profile or image.info.get("icc_profile"):
            return _by_profile(image, profile)
        if image.mode == "CMYK":
            return _lab(_srgb_to_linear(np.asarray(image.convert("RGB")) / 255), SRGB)
        return _by_tags(_values(data), image.getexif())


def _plain(data: bytes) -> bytes:
    """A PNG without its profile, which Pillow reads up to 1 MiB only; other files as they are."""
    if not data.startswith(SIGNATURE):
        return data
    return written([pair for pair in chunks_of(data) if pair[0] != b"iCCP"])


def _by_chunks(values: NDArray[np.float64], chunks: dict[bytes, bytes]) -> Lab:
    if b"cICP" in chunks:
        primaries, transfer = chunks[b"cICP"][:2]
        return _lab(values if transfer == 8 else _srgb_to_linear(values), CICP_PRIMARIES[primaries])
    return _lab(_srgb_to_linear(values), SRGB) if b"sRGB" in chunks else _by_gamma(values, chunks)


def _by_tags(values: NDArray[np.float64], exif: Image.Exif) -> Lab:
    if exif.get_ifd(0xA005).get(1) == "R03":
        return _lab(values**2.2, ADOBE)
    if 0x13F in exif:
        xy = [float(value) for tag in (0x13E, 0x13F) for value in exif[tag]]
        return _lab(values**2.2, tuple(zip(xy[::2], xy[1::2], strict=True)))
    return _lab(_srgb_to_linear(values), SRGB)


def _values(data: bytes) -> NDArray[np.float64]:
    """Upright RGB, 0 to 1; of more than 8 bits as OpenCV reads it."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    assert pixels is not None, "OpenCV cannot read it"
    if pixels.dtype == np.uint16:
        values: NDArray[np.float64] = pixels[..., ::-1] / 65_535
        return values
    with Image.open(io.BytesIO(_plain(data))) as image:
        return np.asarray(image.convert("RGBA").convert("RGB")) / 255


def _by_profile(image: Image.Image, profile: bytes) -> Lab:
    """By LittleCMS, of 8 bits a channel: half a level of what has more is within the tests' tolerance."""
    if image.mode.startswith("I"):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    grey = source.profile.xcolor_space == "GRAY"
    image = image if image.mode == "CMYK" else image.convert("RGBA").convert("L" if grey else "RGB")
    lab = np.asarray(ImageCms.profileToProfile(image, source, ImageCms.createProfile("LAB"), outputMode="LAB"))
    return np.dstack([lab[..., 0] * (100 / 255), lab[..., 1:].view(np.int8).astype(float)])


def _by_gamma(values: NDArray[np.float64], chunks: dict[bytes, bytes]) -> Lab:
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000 if b"gAMA" in chunks else 1 / 2.2
    primaries: tuple[tuple[float, float], ...] = SRGB
    if b"cHRM" in chunks:
        xy = [value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"])]
        primaries = tuple(zip(xy[::2], xy[1::2], strict=True))
    return _lab(values ** (1 / gamma), primaries)


def _srgb_to_linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: NDArray[np.float64], primaries: tuple[tuple[float, float], ...]) -> Lab:
    """CIE 15, 8.2.1."""
    ratio = linear @ to_d50(primaries).T / D50
    cubes = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = (cubes[..., channel] for channel in range(3))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
