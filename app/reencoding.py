"""Results that a dialect stretches or turns into another format: they keep what the worker wrote beside the pixels."""

import io
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jobs.png_chunks import XMP


def encoded_anew(changed: Image.Image, result: Image.Image, file_format: str, **options: Any) -> bytes:
    """``changed`` as a file, with the colour profile, EXIF and XMP of the ``result`` that it was made of."""
    kept: dict[str, Any] = {name: result.info[name] for name in ("icc_profile", "exif", "xmp") if name in result.info}
    if file_format.lower() == "png" and "xmp" in kept:
        texts = PngInfo()
        texts.add_itxt(XMP, kept.pop("xmp").decode())
        kept["pnginfo"] = texts
    file = io.BytesIO()
    changed.save(file, file_format, **kept, **options)
    return file.getvalue()
