"""Outside the mask a result looks as its photo does, whatever says how that looks, in every format.

Formats and statements are walked; the colours that both files show are compared by ``displayed``.
"""

import struct
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from tests.factories import encoded, noise
from tests.icc_profiles import DISPLAY_P3, cmyk_profile, grey_profile, rgb_profile
from tests.png_files import with_chunks
from tests.worker.displayed import displayed
from tests.worker.painting import MASK, repaint

RGB = noise((*MASK.shape, 3))
RGB[:8] = np.linspace(0, 255, MASK.shape[1], dtype=np.uint8)[None, :, None]  # a grey ramp: where gammas differ most
KEPT = MASK == 0

P3_CICP = (b"cICP", bytes([12, 13, 0, 1]))
LINEAR_CICP = (b"cICP", bytes([9, 8, 0, 1]))
SRGB = (b"sRGB", b"\1")
LINEAR = (b"gAMA", struct.pack(">I", 100_000))
P3_CHRM = (b"cHRM", struct.pack(">8I", *(round(value * 100_000) for xy in DISPLAY_P3 for value in xy)))
HDR = (b"mDCV", bytes(range(24))), (b"cLLI", bytes(range(8)))


def saved(mode: str, kind: str, **options: Any) -> bytes:
    image = Image.fromarray(RGB).convert(mode) if mode != "P" else Image.fromarray(RGB).quantize(64)
    return encoded(image, kind, **options)


def png_of_16_bits(grey: bool = False) -> bytes:
    values = RGB[..., ::-1].astype(np.uint16) * 257 + 100
    return cv2.imencode(".png", values[..., 0] if grey else values)[1].tobytes()


def exif(**tags: Any) -> bytes:
    found = Image.Exif()
    found.get_ifd(0x8769)[0xA001] = tags.get("space", 0xFFFF)
    if "interop" in tags:
        found.get_ifd(0x8769)[0xA005] = {1: tags["interop"]}
    return found.tobytes()


def tiff_tags() -> TiffImagePlugin.ImageFileDirectory_v2:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[0x13E] = DISPLAY_P3[0]
    tags[0x13F] = tuple(value for xy in DISPLAY_P3[1:] for value in xy)
    return tags


RGB_ICC, GREY_ICC, CMYK_ICC = rgb_profile(1.8), grey_profile(1.0), cmyk_profile()

PNG_MODES = {
    "rgb": saved("RGB", "PNG"),
    "rgba": saved("RGBA", "PNG"),
    "palette": saved("P", "PNG"),
    "grey": saved("L", "PNG"),
    "grey alpha": saved("LA", "PNG"),
    "16 bit": png_of_16_bits(),
    "grey 16 bit": png_of_16_bits(grey=True),
}
PNG_STATEMENTS: dict[str, tuple[list[tuple[bytes, bytes]], str]] = {
    "nothing": ([], "none"),
    "cICP": ([P3_CICP], "cicp"),
    "linear cICP, HDR": ([LINEAR_CICP, *HDR], "cicp"),
    "sRGB": ([SRGB], "srgb"),
    "gAMA": ([LINEAR], "gama_chrm"),
    "gAMA and cHRM": ([LINEAR, P3_CHRM], "gama_chrm"),
    "cICP, sRGB, gAMA, cHRM": ([P3_CICP, SRGB, LINEAR, P3_CHRM], "cicp"),
}

CASES: dict[str, tuple[bytes, str, str]] = {
    f"PNG {mode}: {said}": (with_chunks(png, *chunks), name, "none" if name == "none" else "carried")
    for mode, png in PNG_MODES.items()
    for said, (chunks, name) in PNG_STATEMENTS.items()
}
for kind, lossless in (("PNG", {}), ("JPEG", {"quality": 95}), ("TIFF", {}), ("WEBP", {"lossless": True})):
    CASES[f"{kind} RGB: profile"] = (saved("RGB", kind, icc_profile=RGB_ICC, **lossless), "icc", "carried")
    CASES[f"{kind} RGB: nothing"] = (saved("RGB", kind, **lossless), "none", "none")
    if kind != "WEBP":
        CASES[f"{kind} grey: profile"] = (saved("L", kind, icc_profile=GREY_ICC, **lossless), "icc", "carried")
        CASES[f"{kind} grey: profile of RGB"] = (saved("L", kind, icc_profile=RGB_ICC, **lossless), "icc", "converted")
    if kind != "TIFF":
        adobe = exif(interop="R03")
        CASES[f"{kind} RGB: Adobe RGB in EXIF"] = (saved("RGB", kind, exif=adobe, **lossless), "exif", "carried")
        CASES[f"{kind} RGB: sRGB in EXIF"] = (saved("RGB", kind, exif=exif(space=1), **lossless), "exif", "carried")
for kind in ("JPEG", "TIFF"):
    CASES[f"{kind} CMYK: profile"] = (saved("CMYK", kind, icc_profile=CMYK_ICC), "icc", "converted")
    CASES[f"{kind} CMYK: nothing"] = (saved("CMYK", kind), "none", "converted")
CASES |= {
    "TIFF grey alpha: profile": (saved("LA", "TIFF", icc_profile=GREY_ICC), "icc", "carried"),
    "TIFF RGB: primaries": (saved("RGB", "TIFF", tiffinfo=tiff_tags()), "exif", "carried"),
    "PNG RGB: profile and cICP": (with_chunks(saved("RGB", "PNG", icc_profile=RGB_ICC), P3_CICP), "cicp", "carried"),
    "PNG grey: profile of RGB and cICP": (
        with_chunks(saved("L", "PNG", icc_profile=RGB_ICC), P3_CICP), "cicp", "carried",
    ),
    "PNG RGB: a profile of 2 MB": (saved("RGB", "JPEG", icc_profile=rgb_profile(1.8, 2_000_000)), "icc", "carried"),
    "PNG RGB: profile and gamma": (with_chunks(saved("RGB", "PNG", icc_profile=RGB_ICC), LINEAR), "icc", "carried"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_result_looks_as_its_photo_does_outside_the_mask(case: str) -> None:
    photo, name, action = CASES[case]
    report, (result,) = repaint(photo)
    assert report.picture is not None
    assert (report.picture.color, report.picture.color_action) == (name, action)
    difference = np.linalg.norm(displayed(result) - displayed(photo), axis=-1)[KEPT]
    rounded = "16 bit" in case or action == "converted"  # half a level of a dark linear value is two units
    assert difference.max() < (4 if rounded else 1)
    assert difference.mean() < 1
