"""What people send in place of a picture that is taken, known by its first bytes."""

import codecs
import re

from jobs.formats import HAS_HEIC

HEIC = "a HEIC file"
_DAMAGED = "file that is damaged, or of a kind that is not supported"
_AVIF, _HEIC = rb".{4}ftyp(avif|avis|mif1.{4,40}avif)", rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)(?!.{4,40}avif)"

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"GIF8[79]a", "a GIF file"),
    (rb"BM.{4}\0\0\0\0", "a BMP file"),
    *(() if HAS_HEIC else ((_HEIC, HEIC),)),
    (rb".{4}ftyp(crx )", "a camera's raw file (CR3)"),
    (rb".{4}ftyp(?!avif|avis|hei[cmsx]|hev[cmsx]|mif1|msf1)|\x1a\x45\xdf\xa3|RIFF.{4}AVI |\0\0\x01\xba", "a video"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL file"),
    (rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  ", "a JPEG 2000 file"),
    (rb"8BPS", "a Photoshop file"),
    (rb"gimp xcf", "a GIMP file"),
    (rb"%PDF-", "a PDF file"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "an icon (ICO)"),
    (rb"P[1-7]\s", "a PNM file"),
    (rb"#\?RADIANCE|#\?RGBE", "a Radiance HDR file"),
    (rb"v/1\x01", "an OpenEXR file"),
    (rb"DDS ", "a DDS file"),
    (rb"qoif", "a QOI file"),
    (rb"FUJIFILMCCD-RAW", "a camera's raw file (RAF)"),
    (rb"II(RO|RS|U\0)|MMOR", "a camera's raw file (ORF or RW2)"),
    (rb"\0MRM", "a camera's raw file (MRW)"),
    (rb"FOVb", "a camera's raw file (X3F)"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip file"),
    (rb"\x93NUMPY", "a NumPy file"),
    (rb"data:[\w/+.-]*;base64,|iVBORw0KGgo|/9j/|UklGR|SUkqA|TU0AK|R0lGOD", "text in base64"),
    (rb"(?i)\s*<(!doctype html|html)[\s>]", "an HTML page"),
    (rb"\s*<(svg|[?!][^\0]*<svg)[\s>/]", "an SVG file"),
)
"""Pattern of the first bytes -> what it is; the first that matches counts."""

TAKEN: tuple[tuple[bytes, str], ...] = (
    (_AVIF, f"an AVIF {_DAMAGED}"),
    (_HEIC, f"a HEIC {_DAMAGED}"),
    (rb"\x89PNG|\xff\xd8\xff|RIFF.{4}WEBP", "a picture whose header is damaged"),
    (rb"II[*+]\0|MM\0[*+]", "a TIFF file that is damaged, or whose samples have a layout that is not supported"),
)
"""The same for files of the formats that are taken, where no decoder takes them."""

LOOKED_AT = 1024
"""Bytes of a file that are looked at."""


def known_as(data: bytes) -> str | None:
    """What a file is that is none of the pictures that are taken, with its article; None where nothing says so."""
    return _first_match(SIGNATURES, data)


def taken_but_unreadable(data: bytes) -> str | None:
    """The same for a file that begins like one that is taken, and that no decoder knows."""
    return _first_match(TAKEN, data)


def _first_match(signatures: tuple[tuple[bytes, str], ...], data: bytes) -> str | None:
    begin = data[:LOOKED_AT].removeprefix(codecs.BOM_UTF8)
    return next((name for pattern, name in signatures if re.match(pattern, begin, re.DOTALL)), None)
