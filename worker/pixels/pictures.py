"""Uploads as pixels: upright, 8 bits a channel, with the statement of how they look (profile, chunks).

"The decoded input" of the exactness promise is what ``decode`` returns. RGB and grey values are those of the file; the
statement of how they look is carried to the result. CMYK becomes sRGB, because a PNG cannot hold it, and so does grey
with a profile that a PNG cannot hold beside it. 16 bits are rounded to 8: the service works in 8. With
``bit_depth=keep`` they are kept beside, for the paste.
"""

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from jobs import heif_boxes, png_chunks, samples
from jobs.errors import Undecodable
from jobs.formats import NAMES, PILLOW_FORMATS
from jobs.schema import Approximation, BitDepth, MetadataChoice, OutputColor, PictureReport
from worker.pixels import colour
from worker.pixels.colour import CMYK, GREY, RGB, SRGB, Chunks, Colour
from worker.pixels.masks import Values
from worker.pixels.metadata import metadata_of

Pixels = NDArray[np.uint8]

MODES: dict[bytes, Literal["grey", "rgb", "cmyk"]] = {GREY: "grey", RGB: "rgb", CMYK: "cmyk"}
PROFILES = {GREY: (GREY, RGB), RGB: (RGB,), CMYK: (CMYK,)}
"""The colour spaces of a profile that describes values of one: equal RGB values are grey."""

INCH_M = 0.0254

DECODING_ERRORS = (OSError, ValueError, SyntaxError, LookupError, TypeError, AssertionError, EOFError, struct.error)
"""What Pillow raises on damaged files."""


@dataclass(frozen=True)
class Picture:
    """An upright picture.

    rgb: (H, W, 3), uint8; three equal channels where it is grey.
    alpha: (H, W), uint8, or None.
    grey: whether the result is grey.
    wide: with 16 bits a channel, (H, W, 3) or (H, W, 4) with alpha, uint16; None where results have 8.
    chunks: the result's PNG chunks on colour and density, and the EXIF that it carries.
    xmp: the properties that it carries.
    """

    rgb: Pixels
    alpha: Pixels | None
    grey: bool
    chunks: Chunks
    report: PictureReport
    xmp: bytes = b""
    wide: NDArray[np.uint16] | None = None

    @cached_property
    def pixels(self) -> Values:
        """(H, W, 3), or (H, W, 4) with alpha; in as many bits as the results have."""
        if self.wide is not None:
            return self.wide
        return self.rgb if self.alpha is None else np.dstack([self.rgb, self.alpha])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[1], self.rgb.shape[0]

    @property
    def approximate(self) -> list[Approximation]:
        """What the result lacks of the upload."""
        return ["depth_reduced"] if self.report.bits > self.report.bit_depth else []

    def reported(self, states_colours: bool) -> PictureReport:
        """``states_colours``: whether the result's file could."""
        left_out = self.report.color_action == "carried" and not states_colours
        return self.report.model_copy(update={"color_action": "ignored"}) if left_out else self.report

    def in_its_mode(self, painted: Pixels) -> Pixels:
        """What a network painted, (h, w, 3), as three equal channels of luma where the result is grey."""
        return _three(cv2.cvtColor(painted, cv2.COLOR_RGB2GRAY)) if self.grey else painted

    def channels_of(self, result: Values) -> Values:
        """A result, (H, W, 3) or (H, W, 4), with the channels that its PNG has."""
        if not self.grey:
            return result
        return np.ascontiguousarray(result[..., 0] if result.shape[2] == 3 else result[..., 2:])


def decode(
    data: bytes, output_color: OutputColor = "auto", metadata: MetadataChoice = "keep", bit_depth: BitDepth = "8"
) -> Picture:
    """Decode an uploaded picture. Raises Undecodable; the API has checked that it is whole, so this is rare."""
    try:
        file = png_chunks.decodable(data)
        with Image.open(io.BytesIO(file), formats=PILLOW_FORMATS) as image:
            return _decoded(image, file, data, output_color, metadata, bit_depth)
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise Undecodable("The image in the store is damaged and cannot be decoded.") from error


def decode_mask(data: bytes) -> Pixels:
    """Decode a mask as the API stored it: (H, W), uint8, white = repaint. Raises Undecodable."""
    try:
        with Image.open(io.BytesIO(png_chunks.decodable(data)), formats=PILLOW_FORMATS) as image:
            return np.asarray(image.convert("L"))
    except DECODING_ERRORS as error:
        raise Undecodable("The mask in the store is damaged and cannot be decoded.") from error


def _decoded(
    image: Image.Image,
    file: bytes,
    data: bytes,
    output_color: OutputColor,
    choice: MetadataChoice,
    bit_depth: BitDepth,
) -> Picture:
    """``file``: the part of ``data`` that Pillow reads."""
    stated, exif = png_chunks.appearance(data), Image.Image.getexif(image)
    orientation = exif.get(ExifTags.Base.Orientation, 1)
    metadata = metadata_of(image, exif, data, choice)
    bits = samples.bits_of(image, file)
    if heif_boxes.is_heif(data):
        described = heif_boxes.describe(data)
        stated, bits = described.chunks, described.bits
    wide = None
    if bit_depth == "keep" and bits > 8:
        if bits != 16 or image.mode == "CMYK":
            raise Undecodable("bit_depth: keep is for grey and RGB photos of 16 bits a channel.")
        wide = samples.in_16_bits(image, file, stated.get(b"tRNS"), orientation)
        flat = samples.rounded_image(wide)
    else:
        flat = samples.in_8_bits(image, file, stated.get(b"tRNS"))
        flat.load()
        flat = samples.upright(flat, image, orientation)
    space = CMYK if flat.mode == "CMYK" else GREY if flat.mode in samples.GREY_MODES else RGB
    found = colour.colour_of(image, exif, stated, PROFILES[space])
    rgb, alpha, found = _pixels(flat, space, found, output_color)
    if wide is not None and found.action == "converted":
        raise Undecodable("bit_depth: the photo's values would be converted by its profile, in 8 bits. Send 8.")
    report = PictureReport(
        format=NAMES[image.format or ""],
        input_bytes=len(data),
        mode=MODES[space],
        alpha=alpha is not None,
        bits=bits,
        bit_depth=8 if wide is None else 16,
        color=found.name,
        color_action=found.action,
        metadata=metadata.report,
    )
    chunks = found.chunks + _density(image, exif, stated, swapped=orientation in (5, 6, 7, 8))
    if metadata.exif:
        chunks += ((b"eXIf", metadata.exif),)
    wide = None if wide is None else _coloured(wide)
    return Picture(rgb, alpha, space == GREY and output_color == "auto", chunks, report, metadata.xmp, wide)


def _pixels(
    flat: Image.Image, space: bytes, found: Colour, output_color: OutputColor
) -> tuple[Pixels, Pixels | None, Colour]:
    """``rgb`` and ``alpha`` of a Picture, and what became of its colours."""
    if space == CMYK:
        rgb, found = _from_cmyk(flat, found)
        return rgb, None, found
    grey, has_alpha = space == GREY, flat.has_transparency_data
    layers = np.array(flat.convert(("L" if grey else "RGB") + "A" * has_alpha))
    alpha = np.ascontiguousarray(layers[..., -1]) if has_alpha else None
    if not grey:
        return np.ascontiguousarray(layers[..., :3]), alpha, found
    values, found = _grey(layers[..., 0] if has_alpha else layers, found, output_color)
    return _three(values), alpha, found


def _grey(values: Pixels, found: Colour, output_color: OutputColor) -> tuple[Pixels, Colour]:
    """Values (H, W), in sRGB where a PNG of the result's colour type cannot hold their profile."""
    if found.profile is None or colour.describes(found.profile, GREY if output_color == "auto" else RGB):
        return values, found
    if found.name != "icc":  # the profile is what a reader falls back on
        return values, replace(found, chunks=tuple(chunk for chunk in found.chunks if chunk[0] != b"iCCP"))
    levels = colour.grey_levels(found.profile)
    return (values, Colour("icc", "ignored")) if levels is None else (levels[values], Colour("icc", "converted", SRGB))


def _from_cmyk(flat: Image.Image, found: Colour) -> tuple[Pixels, Colour]:
    """In sRGB by the profile, or by Pillow's plain formula where there is no usable one."""
    converted = colour.to_srgb(flat, found.profile) if found.profile else None
    if converted is not None:
        return np.array(converted), Colour("icc", "converted", SRGB)
    unusable = found.profile is not None or (found.name, found.action) == ("icc", "ignored")
    named = Colour("icc", "ignored", SRGB) if unusable else Colour("none", "converted", SRGB)
    return np.array(flat.convert("RGB")), named


def _coloured(wide: NDArray[Any]) -> NDArray[np.uint16]:
    """(H, W, C) to (H, W, 3), or (H, W, 4) with alpha."""
    if wide.shape[2] > 2:
        return wide
    grey, *alpha = cv2.split(wide)
    return np.asarray(cv2.merge([grey, grey, grey, *alpha]), np.uint16)


def _three(values: Pixels) -> Pixels:
    """(H, W) to (H, W, 3)."""
    rgb: Pixels = cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_GRAY2RGB)
    return rgb


def _density(image: Image.Image, exif: Image.Exif, stated: Mapping[bytes, bytes], swapped: bool) -> Chunks:
    """The pixels per metre, or their shape alone, as a pHYs chunk (PNG specification, 11.3.4.3)."""
    try:
        across, down, unit = _density_of(image, exif, stated)
    except (ArithmeticError, TypeError, ValueError, struct.error):  # a file can state any numbers
        return ()
    if not (0 < across < 2**31 and 0 < down < 2**31 and unit < 2):
        return ()
    return ((b"pHYs", struct.pack(">IIB", *((down, across) if swapped else (across, down)), unit)),)


def _density_of(image: Image.Image, exif: Image.Exif, stated: Mapping[bytes, bytes]) -> tuple[int, int, int]:
    """Pixels per metre across and down, and 1; or their ratio, and 0. Zeros where the file states none."""
    if b"pHYs" in stated:
        across, down, unit = struct.unpack(">IIB", stated[b"pHYs"])
        return across, down, unit
    info, is_given = image.info, image.info.get("jfif_unit") or ExifTags.Base.XResolution in exif
    if is_given and (dpi := info.get("dpi")):  # which Pillow makes up where the file states none
        return round(float(dpi[0]) / INCH_M), round(float(dpi[1]) / INCH_M), 1
    ratio = info.get("resolution") or info.get("jfif_density") or (1, 1)
    if info.get("jfif_unit", 0) == 0 and ratio[0] != ratio[1]:
        return round(float(ratio[0]) * 1000), round(float(ratio[1]) * 1000), 0
    return 0, 0, 0
