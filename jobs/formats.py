"""The picture formats that are read, as Pillow names them; its other decoders never see an upload."""

from PIL import AvifImagePlugin

from jobs.schema import PictureFormat

try:
    import pillow_heif
except ImportError:
    HAS_HEIC = False
else:
    HAS_HEIC = True
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    pillow_heif.options.DECODE_THREADS = 1

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # as many decoders run as there are processes

PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", *(("HEIF",) if HAS_HEIC else ()))
"""What Pillow is asked to open."""

NAMES: dict[str, PictureFormat] = {
    "PNG": "png",
    "JPEG": "jpeg",
    "MPO": "jpeg",
    "WEBP": "webp",
    "TIFF": "tiff",
    "AVIF": "avif",
    "HEIF": "heic",
}
"""Pillow's name -> ours. MPO is a JPEG with a preview or gain map behind it, as phones write; the first one counts."""

SHOWN = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP", "tiff": "TIFF", "avif": "AVIF", "heic": "HEIC"}
"""Ours -> as a sentence has it."""

HEIC_REMEDY = "HEIC is read where the service is installed with its extra, infill[heic]"
