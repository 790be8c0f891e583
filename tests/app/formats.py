"""A readable picture of every format and colour mode."""

import numpy as np
from PIL import Image, ImageCms

from tests.app.pictures import SIZE, photo
from tests.factories import encoded

LIMIT = 1_000_000
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def sixteen_bit(size: tuple[int, int] = SIZE) -> Image.Image:
    values = np.linspace(0, 65_535, size[0] * size[1]).reshape(size[1], size[0])
    return Image.fromarray(values.astype(np.uint16))


def see_through() -> Image.Image:
    """With an alpha channel that is not opaque."""
    image = photo(mode="RGBA")
    image.putalpha(photo(mode="L"))
    return image


PICTURES = {
    "png rgb": encoded(photo()),
    "png rgba": encoded(photo(mode="RGBA")),
    "png grey": encoded(photo(mode="L")),
    "png grey alpha": encoded(photo(mode="LA")),
    "png palette": encoded(photo().quantize(16)),
    "png palette transparent": encoded(photo().quantize(16), transparency=3),
    "png bilevel": encoded(photo(mode="1")),
    "png 16 bit": encoded(sixteen_bit()),
    "png icc": encoded(photo(), icc_profile=SRGB),
    "jpeg": encoded(photo(), "JPEG"),
    "jpeg grey": encoded(photo(mode="L"), "JPEG"),
    "jpeg cmyk": encoded(photo(mode="CMYK"), "JPEG"),
    "jpeg progressive": encoded(photo(), "JPEG", progressive=True, icc_profile=SRGB),
    "jpeg with a preview": encoded(photo(), "MPO", save_all=True, append_images=[photo((16, 12))]),
    "webp": encoded(photo(), "WEBP"),
    "webp lossless alpha": encoded(photo(mode="RGBA"), "WEBP", lossless=True),
    "avif": encoded(photo(), "AVIF"),
    "avif grey": encoded(photo(mode="L"), "AVIF"),
    "avif alpha": encoded(see_through(), "AVIF"),
    "tiff": encoded(photo(), "TIFF"),
    "tiff lzw": encoded(photo(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": encoded(photo(), "TIFF", compression="jpeg"),
    "tiff cmyk": encoded(photo(mode="CMYK"), "TIFF"),
    "tiff 16 bit": encoded(sixteen_bit(), "TIFF"),
}
