"""What results carry of an upload's EXIF: the tags of a list (EXIF 3.0, 4.6), which Pillow reads and writes anew.

What is on no list is left out: what does not hold any more (orientation, thumbnail, sizes, colours, the last change),
what cannot be checked (MakerNote, UserComment), what names a device (serial numbers, its owner).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

IMAGE = (Base.ImageDescription, Base.Make, Base.Model, Base.Artist, Base.Copyright)
SHOT = (
    Base.ExposureTime,
    Base.FNumber,
    Base.ExposureProgram,
    Base.ISOSpeedRatings,
    Base.SensitivityType,
    Base.StandardOutputSensitivity,
    Base.RecommendedExposureIndex,
    Base.DateTimeOriginal,
    Base.DateTimeDigitized,
    Base.OffsetTimeOriginal,
    Base.OffsetTimeDigitized,
    Base.SubsecTimeOriginal,
    Base.SubsecTimeDigitized,
    Base.ShutterSpeedValue,
    Base.ApertureValue,
    Base.BrightnessValue,
    Base.ExposureBiasValue,
    Base.MaxApertureValue,
    Base.SubjectDistance,
    Base.MeteringMode,
    Base.LightSource,
    Base.Flash,
    Base.FocalLength,
    Base.ExposureMode,
    Base.WhiteBalance,
    Base.DigitalZoomRatio,
    Base.FocalLengthIn35mmFilm,
    Base.SceneCaptureType,
    Base.GainControl,
    Base.Contrast,
    Base.Saturation,
    Base.Sharpness,
    Base.SubjectDistanceRange,
    Base.LensSpecification,
    Base.LensMake,
    Base.LensModel,
)
POSITION = range(32)
"""All tags of the GPS directory."""
PLAIN = (str, int, IFDRational)
MOST_VALUES = 8
HEAD = b"Exif\0\0"


def carried(exif: Image.Exif, with_position: bool) -> tuple[bytes, bool]:
    """What is kept, as an eXIf chunk has it (empty: nothing), and whether the file says where the photo was taken.

    Raises whatever Pillow does on damaged data.
    """
    position = _of(exif.get_ifd(IFD.GPSInfo), POSITION, (*PLAIN, bytes))
    kept = Image.Exif()
    kept.update(_of(exif, IMAGE))
    _keep_bytes(kept)
    directories = {IFD.Exif: _of(exif.get_ifd(IFD.Exif), SHOT), IFD.GPSInfo: position if with_position else {}}
    for name, values in directories.items():
        kept.get_ifd(name).update(values)
    is_any = len(kept) > 0 or any(directories.values())
    return (kept.tobytes().removeprefix(HEAD) if is_any else b""), bool(position)


def loaded(chunk: bytes) -> Image.Exif:
    """What ``carried`` returned, to be added to."""
    exif = Image.Exif()
    exif.load(chunk)
    _keep_bytes(exif)
    return exif


def _of(values: Mapping[int, Any], tags: Iterable[int], kinds: tuple[type, ...] = PLAIN) -> dict[int, Any]:
    return {int(tag): values[tag] for tag in tags if tag in values and _is_of(values[tag], kinds)}


def _is_of(value: Any, kinds: tuple[type, ...]) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return len(values) <= MOST_VALUES and all(isinstance(each, kinds) for each in values)


def _keep_bytes(exif: Image.Exif) -> None:
    """Have the same bytes written. Pillow reads texts as Latin-1, whatever they are (often UTF-8), and writes ASCII."""
    for tag in IMAGE:
        if isinstance(text := exif.get(tag), str):
            exif[tag] = text.encode("latin-1")
