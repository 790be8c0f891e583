"""What decoding each kind of file takes a pixel: ``python -m tests.app.peaks`` prints it as JSON.

Each kind is decoded in two sizes, and the difference of the peaks counts, less that of the files: what does not grow
with the picture is no cost of its pixels. On Linux only: the peak is reset through ``/proc``.
"""

import ctypes
import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import ExifTags, Image

from app.decoding import decode
from jobs.schema import MaskMode
from tests import png_files, tiff_files
from tests.app.pictures import box_mask
from tests.factories import encoded
from tests.png_files import png_of
from tests.tiff_files import tiff_of

Size = tuple[int, int]

PR_SET_THP_DISABLE = 41
SIZES = ((640, 480), (1920, 1440))
FORMS: dict[str, dict[str, dict[str, Any]]] = {
    "PNG": {"": {}},
    "JPEG": {"": {}, ", progressive": {"progressive": True, "subsampling": 0}},
    "WEBP": {"": {"method": 0}, ", lossless": {"lossless": True, "quality": 0, "method": 0}},
    "AVIF": {"": {"speed": 10}},
    "TIFF": {"": {}, ", one strip": {"compression": "tiff_lzw", "strip_size": 2**30}},
}
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "AVIF": ("L", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"),
}


@dataclass(frozen=True)
class File:
    name: str
    data: bytes
    upright: Size
    mode: MaskMode = "white"


def files(size: Size) -> Iterator[File]:
    """Every format and layout, each with a mask's values; some to be turned, some to be read by their alpha."""
    box = size[0] // 4, size[1] // 4, size[0] // 2, size[1] // 2
    mask = box_mask(size, box)
    for file_format, forms in FORMS.items():
        for mode in MODES[file_format]:
            for form, options in forms.items():
                yield File(f"{file_format} {mode}{form}", encoded(mask.convert(mode), file_format, **options), size)
        sideways = Image.Exif()  # AVIF takes the tag out of it
        sideways[ExifTags.Base.Orientation] = 6
        turned = encoded(mask.convert("RGB"), file_format, exif=sideways)
        yield File(f"{file_format} RGB, sideways", turned, size[::-1])
    for file_format in ("PNG", "WEBP"):
        see_through = Image.merge("RGBA", [*[mask] * 3, mask])
        yield File(f"{file_format} RGBA, alpha", encoded(see_through, file_format), size, "alpha")
    yield File("AVIF RGBA, alpha", encoded(Image.merge("RGBA", [*[mask] * 3, mask]), "AVIF", speed=10), size, "alpha")
    yield File("AVIF RGB, 10 bits", avif_of(np.dstack([np.asarray(mask, np.uint16) * 4] * 3), 10), size)
    yield File("PNG L, black", encoded(mask), size, "black")
    noise = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    many = encoded(Image.fromarray(np.dstack([noise] * 3)), "WEBP", **FORMS["WEBP"][", lossless"])
    yield File("WEBP RGB, lossless, noise", many, size)
    yield File("PNG L, noise", encoded(Image.fromarray(noise), compress_level=1), size)
    yield from _made_by_hand(size, np.asarray(mask))


def avif_of(samples: np.ndarray[Any, np.dtype[np.uint8 | np.uint16]], bits: int) -> bytes:
    """A file of (H, W, 3) samples, blue first."""
    whole, data = cv2.imencode(".avif", samples, [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_SPEED, 10])
    assert whole
    return bytes(data)


def _made_by_hand(size: Size, mask: np.ndarray[Any, np.dtype[np.uint8]]) -> Iterator[File]:
    wide = mask.astype(np.uint16) * 257
    opaque = np.full_like(wide, 65_535)
    yield File("PNG 16 bits", png_of(wide, 16, png_files.GREY), size)
    yield File("PNG LA, 16 bits", png_of(np.dstack([wide, opaque]), 16, png_files.GREY_ALPHA), size)
    yield File("PNG RGB, 16 bits", png_of(np.dstack([wide] * 3), 16, png_files.RGB), size)
    yield File("PNG RGBA, 16 bits", png_of(np.dstack([*[wide] * 3, opaque]), 16, png_files.RGB_ALPHA), size)
    white = (b"tRNS", struct.pack(">3H", 255, 255, 255))
    yield File("PNG RGB, tRNS", png_of(np.dstack([mask] * 3), 8, png_files.RGB, white), size, "alpha")
    yield File("TIFF 16 bits", tiff_of(wide, tiff_files.BLACK_IS_ZERO), size)
    floats = {tiff_files.SAMPLE_FORMAT: (3,)}
    yield File("TIFF F", tiff_of(mask / np.float32(255), tiff_files.BLACK_IS_ZERO, floats), size)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.dstack([wide] * 3), photometric="rgb", compression="zlib", rowsperstrip=size[1])
    yield File("TIFF RGB, 16 bits, one strip", buffer.getvalue(), size)


def peak_bytes(file: File, what: str) -> int:
    """Of resident memory, beside what there was before and the file's own."""
    how: dict[str, Any] = {"mode": file.mode, "scale": "full", "threshold": None, "boxes": [], "polygons": []}
    arguments = {"what": what, "size": file.upright, "max_pixels": 10**8, **how}
    buffers = [memoryview(file.data)]
    ctypes.CDLL(None).malloc_trim(0)  # what an earlier file left free would be used again, and not be counted
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    decode(buffers, arguments)
    return _status("VmHWM") - before - len(file.data)


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Print name -> [bytes a pixel as a mask, as an image]; floating-point values are no image."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)  # in huge pages a few bytes may count as 2 MiB
    for file in files((64, 48)):
        peak_bytes(file, "mask")  # so that what is imported at first use is there
    peaks = [
        {
            file.name: [peak_bytes(file, what) for what in ("mask", "image") if what == "mask" or file.name != "TIFF F"]
            for file in files(size)
        }
        for size in SIZES
    ]
    pixels = SIZES[1][0] * SIZES[1][1] - SIZES[0][0] * SIZES[0][1]
    print(
        json.dumps(
            {
                name: [round((large - small) / pixels, 2) for small, large in zip(peaks[0][name], larger, strict=True)]
                for name, larger in peaks[1].items()
            }
        )
    )


if __name__ == "__main__":
    main()
