"""What defines how a picture's values look: found in the upload, carried over to the result's PNG or converted through.

In a PNG the first of cICP, iCCP, sRGB and gAMA with cHRM holds (PNG specification, third edition, 4.3); what a reader
falls back on is carried too. Elsewhere it is an ICC profile or, without one, tags of EXIF and TIFF.
"""

import io
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from jobs.png_chunks import MAX_PROFILE_BYTES, profile_in
from jobs.schema import ColorAction, ColorStatement

Chunks = tuple[tuple[bytes, bytes], ...]

LENGTHS = {b"cICP": 4, b"iCCP": None, b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"mDCV": 24, b"cLLI": 8}
"""The chunks in the order in which they are written, and how long their data is."""

PRECEDENCE: dict[bytes, ColorStatement] = {
    b"cICP": "cicp",
    b"iCCP": "icc",
    b"sRGB": "srgb",
    b"gAMA": "gama_chrm",
    b"cHRM": "gama_chrm",
}

GREY, RGB, CMYK = b"GRAY", b"RGB ", b"CMYK"
"""Colour spaces as an ICC profile names them (ICC.1:2022, table 19)."""

SRGB: Chunks = ((b"sRGB", b"\0"),)
ADOBE_RGB: Chunks = (
    (b"gAMA", struct.pack(">I", 45_471)),
    (b"cHRM", struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)),
)
DEFLATE_LEVEL = 2


@dataclass(frozen=True)
class Colour:
    """Which statement holds, what becomes of it, and the chunks of the result's PNG."""

    name: ColorStatement = "none"
    action: ColorAction = "none"
    chunks: Chunks = ()
    profile: bytes | None = None


def colour_of(image: Image.Image, exif: Image.Exif, stored: Mapping[bytes, bytes], spaces: Sequence[bytes]) -> Colour:
    """Find the statement that holds for a picture, to be carried as it is.

    Args:
        image: as Pillow opened it.
        exif: its EXIF and TIFF tags.
        stored: the chunks of a PNG; empty for other formats.
        spaces: the colour spaces whose ICC profiles describe its values.
    """
    iccp = stored.get(b"iCCP")
    found = profile_in(iccp) if iccp else image.info.get("icc_profile")
    profile = found if found and _is_profile(found, spaces) else None
    chunks = {kind: stored[kind] for kind in LENGTHS if kind in stored and _is_sound(kind, stored[kind])}
    if profile:
        chunks = {kind: data for kind, data in chunks.items() if kind != b"sRGB"} | {b"iCCP": _packed(profile)}
    if name := next((PRECEDENCE[kind] for kind in PRECEDENCE if kind in chunks), None):
        return Colour(name, "carried", _in_order(chunks), profile)
    tags = _of_tags(exif)
    if tags:
        return Colour("exif", "carried", _in_order(tags))
    if tags is None:
        return Colour("exif", "ignored")
    return Colour("icc", "ignored") if iccp or "icc_profile" in image.info else Colour()


def _in_order(chunks: Mapping[bytes, bytes]) -> Chunks:
    return tuple((kind, chunks[kind]) for kind in LENGTHS if kind in chunks)


def grey_levels(profile: bytes) -> NDArray[np.uint8] | None:
    """The sRGB level of each of 256 grey ones, by a profile of grey or RGB values; None where it is unusable."""
    ramp = Image.frombytes("L", (256, 1), bytes(range(256)))
    converted = to_srgb(ramp if _space(profile) == GREY else ramp.convert("RGB"), profile)
    if converted is None:
        return None
    levels = np.asarray(converted.convert("L"))[0]
    plain = np.arange(256, dtype=np.uint8)
    return plain if np.abs(levels.astype(int) - plain).max() <= 1 else levels  # rounding of the conversion


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert by a profile; None where it is unusable."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None


def _is_profile(profile: bytes, spaces: Sequence[bytes]) -> bool:
    """Whether it has a profile's header (ICC.1:2022, 7.2), of one of these colour spaces, and is there to its end."""
    whole = 128 < int.from_bytes(profile[:4]) <= len(profile) <= MAX_PROFILE_BYTES
    return whole and profile[36:40] == b"acsp" and _space(profile) in spaces


def _space(profile: bytes) -> bytes:
    return profile[16:20]


def describes(profile: bytes, space: bytes) -> bool:
    """Whether it is a profile of values in this colour space."""
    return _space(profile) == space


def _packed(profile: bytes) -> bytes:
    """The data of an iCCP chunk."""
    return b"icc\0\0" + bytes(isal_zlib.compress(profile, DEFLATE_LEVEL))


def _is_sound(kind: bytes, data: bytes) -> bool:
    """Whether readers act on a chunk; a profile is looked at elsewhere."""
    if len(data) != LENGTHS[kind]:
        return False
    if kind == b"cICP":  # 0, 2 and 3: reserved or unspecified; a PNG's matrix is 0 (ITU-T H.273, 8.1 to 8.3)
        return data[0] not in (0, 2, 3) and data[1] not in (0, 2, 3) and data[2] == 0 and data[3] < 2
    return any(data) if kind == b"gAMA" else kind != b"sRGB" or data[0] < 4


def _of_tags(exif: Image.Exif) -> dict[bytes, bytes] | None:
    """The statement of EXIF and TIFF tags as chunks: empty where there is none, None where chunks cannot express it."""
    try:
        chunks = _read_tags(exif)
        return {} if chunks and not all(_is_sound(*chunk) for chunk in chunks.items()) else chunks
    except Exception:  # a file can put values of any type and number under any tag
        return {}


def _read_tags(exif: Image.Exif) -> dict[bytes, bytes] | None:
    """ColorSpace (EXIF 3.0, 4.6.6.2), WhitePoint and its kin (TIFF 6.0, section 20), Adobe RGB as cameras mark it."""
    tags, shot, dcf = exif, exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.Interop)
    if shot.get(ExifTags.Base.ColorSpace) == 1:
        return dict(SRGB)
    white, primaries = (tags.get(tag) for tag in (ExifTags.Base.WhitePoint, ExifTags.Base.PrimaryChromaticities))
    curve, gamma = tags.get(ExifTags.Base.TransferFunction), shot.get(ExifTags.Base.Gamma)
    if curve and not gamma:
        gamma = _gamma_of(np.array(curve) / 65_535)
        if gamma is None:
            return None
    if white and primaries:
        xy = [round(float(value) * 100_000) for value in (*white, *primaries)]
        return {b"cHRM": struct.pack(">8I", *xy), b"gAMA": _gama(float(gamma or 2.2))}
    if gamma:
        return {b"gAMA": _gama(float(gamma))}
    return dict(ADOBE_RGB) if dcf.get(1) == "R03" else {}


def _gamma_of(curve: NDArray[np.float64]) -> float | None:
    """The exponent of a TransferFunction, of one table or three that agree; None where it is no power of the value."""
    tables = curve.reshape(3, -1) if curve.size % 3 == 0 else curve[None]
    value = np.linspace(0, 1, tables.shape[1])
    middle = tables.shape[1] // 2
    if not 0 < tables[0, middle] < 1:
        return None
    gamma = math.log(tables[0, middle]) / math.log(value[middle])
    return gamma if np.abs(value**gamma - tables).max() < 0.01 else None


def _gama(gamma: float) -> bytes:
    return struct.pack(">I", round(100_000 / gamma))
