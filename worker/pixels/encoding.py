"""Results as files: PNG by a writer of our own, JPEG, WebP and AVIF by Pillow. On codec threads; encoders free the GIL.

What a PNG has in chunks goes elsewhere: colours into an ICC profile, or EXIF's ColorSpace for sRGB, the density into
EXIF and JFIF, and the text ``infill`` into EXIF's UserComment.
"""

import io
import struct
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from jobs.outputs import QUALITY, is_lossless
from jobs.png_chunks import profile_in
from jobs.schema import InpaintParameters, OutputFormat
from worker.pixels import colour, exif, profiles
from worker.pixels.colour import Chunks
from worker.pixels.png import PngWriter

AVIF_SPEED = 9
"""Of 0 to 10. 40 megapixels of a photo take 5 s of a core, of noise 20 s; with 8 it is 6 s and 80 s (libaom 3.x)."""
WEBP_METHOD = 2
"""Of 0 to 6. 45 megapixels of a photo take 3 s of a core, with 4 (Pillow's default) 20 s, for a file as large."""
LOSSLESS_WEBP = {"lossless": True, "quality": 20, "method": 1}
"""Its quality is an effort: 6 s for 45 megapixels, with the defaults 60 s for 2 % less."""

OPTIONS: dict[OutputFormat, dict[str, Any]] = {
    "jpeg": {},
    "webp": {"method": WEBP_METHOD, "exact": True},  # exact: also the colours of transparent pixels
    "avif": {"speed": AVIF_SPEED, "max_threads": 1},
}

JPEG_PROFILE_BYTES = 255 * 65_519
"""What the numbered segments of a JPEG hold (ICC.1:2022, annex B.4)."""
JFIF_MOST = 65_535

UNCALIBRATED, IS_SRGB = 0xFFFF, 1
ASCII = b"ASCII\0\0\0"
"""The head of a UserComment (EXIF 3.0, 4.6.6.9)."""
NO_UNIT, PER_INCH = 1, 2
INCH_M = 0.0254


class Writer(Protocol):
    """A result on its way to a file."""

    states_colours: bool
    """Whether the file states how its values look, as far as the photo did."""

    def finish(self, text: dict[str, str], xmp: bytes = b"") -> bytes:
        """The file, with ``text``: in ASCII, under their keywords. ``xmp``: a packet, or nothing."""
        ...


class PillowWriter:
    """Encodes all at once, at its end: its text stands before the pixels.

    Args:
        pixels: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), uint8.
        chunks: of the PNG that it would be.
    """

    def __init__(self, pixels: NDArray[np.uint8], chunks: Chunks, output_format: OutputFormat, quality: int) -> None:
        self.image = _image(pixels, output_format)
        self.format = output_format
        self.options = OPTIONS[output_format] | {"quality": quality}
        if output_format != "webp" and self.image.mode != "L":
            self.options["subsampling"] = "4:4:4"  # colours of a pixel each; WebP has them for four
        if is_lossless(output_format, quality):
            self.options |= LOSSLESS_WEBP
        stated, is_jpeg = dict(chunks), output_format == "jpeg"
        self.exif = exif.loaded(stated.get(b"eXIf", b""))
        self.profile, self.states_colours = _profile(stated, self.image.mode == "L", is_jpeg)
        if self.profile or stated.get(b"sRGB"):
            self.exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] = UNCALIBRATED if self.profile else IS_SRGB
        self._set_density(stated.get(b"pHYs"))

    def _set_density(self, phys: bytes | None) -> None:
        if not phys:
            return
        across, down, is_metre = struct.unpack(">IIB", phys)
        density = (across * INCH_M, down * INCH_M) if is_metre else (across, down)
        self.exif[ExifTags.Base.XResolution], self.exif[ExifTags.Base.YResolution] = density
        self.exif[ExifTags.Base.ResolutionUnit] = PER_INCH if is_metre else NO_UNIT
        if is_metre and self.format == "jpeg" and max(density) <= JFIF_MOST:
            self.options["dpi"] = density

    def finish(self, text: dict[str, str], xmp: bytes = b"") -> bytes:
        """The only text is ``infill``."""
        comment = ASCII + text["infill"].encode("ascii")
        self.exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
        file = io.BytesIO()
        if xmp:
            self.options["xmp"] = xmp
        self.image.save(file, self.format, icc_profile=self.profile, exif=self.exif.tobytes(), **self.options)
        return file.getvalue()


def writer_of(parameters: InpaintParameters, pixels: NDArray[Any], chunks: Chunks) -> Writer:
    """For a result as a PNG has it, in the format that was asked for."""
    if parameters.output_format == "png":
        return PngWriter(pixels, chunks)
    return PillowWriter(pixels, chunks, parameters.output_format, parameters.output_quality or QUALITY)


def _image(pixels: NDArray[np.uint8], output_format: OutputFormat) -> Image.Image:
    """In a mode of the format: WebP has no grey, and AVIF none with alpha."""
    image = Image.fromarray(pixels)
    if image.mode == "LA":
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode == "L" and output_format == "webp" else image


def _profile(stated: dict[bytes, bytes], grey: bool, is_jpeg: bool) -> tuple[bytes | None, bool]:
    """The profile that says what the chunks do; None where none is needed, or none can. And whether all is said."""
    if cicp := stated.get(b"cICP"):
        if made := profiles.of_cicp(cicp, grey):
            return made, True
        rest = {kind: data for kind, data in stated.items() if kind != b"cICP"}
        return _profile(rest, grey, is_jpeg)[0], False
    if iccp := stated.get(b"iCCP"):
        found = profile_in(iccp)
        if found and not grey and colour.describes(found, colour.GREY):
            found = profiles.of_grey(found)
        if found and is_jpeg and len(found) > JPEG_PROFILE_BYTES:
            found = None
        return found, found is not None
    if b"sRGB" not in stated and (b"gAMA" in stated or b"cHRM" in stated):
        made = profiles.of_gama_chrm(stated.get(b"gAMA"), stated.get(b"cHRM"), grey)
        return made, made is not None
    return None, True
