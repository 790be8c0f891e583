"""The mask as uploaded -> the mask as the worker takes it: 8-bit grey, upright, white = repaint."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from PIL import Image

from app.mask_reading import STRONG, HasTransparency, Mask, read_values
from app.mask_shapes import NO_SHAPES, Shapes
from app.uploads import Size, opened, orientation_of, upright_size
from jobs import mask_values
from jobs.errors import DoubtfulMask, EmptyMask, MaskSizeMismatch
from jobs.mask_fields import MaskSubject
from jobs.schema import Extension, MaskMode, MaskReport, MaskScale, MaskSource
from jobs.tiles import Cells, cells_of

TURNS: dict[int, Callable[[Mask], Mask]] = {
    2: lambda mask: cv2.flip(mask, 1),
    3: lambda mask: cv2.rotate(mask, cv2.ROTATE_180),
    4: lambda mask: cv2.flip(mask, 0),
    5: cv2.transpose,
    6: lambda mask: cv2.rotate(mask, cv2.ROTATE_90_CLOCKWISE),
    7: lambda mask: cv2.rotate(cv2.transpose(mask), cv2.ROTATE_180),
    8: lambda mask: cv2.rotate(mask, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""By EXIF orientation: what makes the mask upright. Pillow's turns (``jobs/samples.py``) would be copied once more."""


WISHES: dict[MaskMode, MaskMode] = {"auto": "alpha", "drawn": "alpha_inverted"}
"""What a file with transparent pixels is read by; any other file is read as white."""


@dataclass(frozen=True)
class DecodedMask:
    """``leaves_known``: whether any pixel is left that the network is shown as surroundings. ``cells``: where it has
    something.
    """

    png: bytes
    report: MaskReport
    leaves_known: bool
    cells: Cells


def decode_mask(
    data: bytes,
    mode: MaskMode,
    image_size: Size,
    max_pixels: int,
    scale: MaskScale = "full",
    threshold: float | None = None,
    shapes: Shapes = NO_SHAPES,
) -> DecodedMask:
    """Read a mask file by ``mode``, ``scale`` and ``threshold``, then draw the shapes; nothing about it is guessed. The
    report names the mode that was read.

    Raises InvalidMask, MaskSizeMismatch, EmptyMask, DoubtfulMask, InvalidField, TooLarge.
    """
    if mode in WISHES:
        try:
            return decode_mask(data, "white", image_size, max_pixels, scale, threshold, shapes)
        except HasTransparency:
            return decode_mask(data, WISHES[mode], image_size, max_pixels, scale, threshold, shapes)
    with opened(data, max_pixels, "mask") as image:
        orientation = orientation_of(image)
        _check_size(upright_size(image, orientation), image_size)
        is_final = mode == "white" and scale == "full" and orientation == 1 and _is_final(image)
        lossy = _is_lossy(image, data)
        mask = read_values(image, data, mode, scale, threshold)
    mask = TURNS.get(orientation, np.asarray)(mask)
    if mode in ("black", "alpha"):  # alpha: transparent is repainted
        np.subtract(255, mask, out=mask)
    strongest, snapped = int(mask.max()), 0
    if threshold:
        mask = mask_values.hardened(mask, threshold)
    else:
        mask, snapped = mask_values.snap(mask, lossy)
        _check_strong(mask, mode)
    if shapes:
        shapes.draw(mask)
    elif not mask.any():
        raise EmptyMask(_emptiness(mode, threshold, strongest))
    read = _Read(mode, scale, threshold, ("file", *shapes.kinds), snapped)
    return _decoded(mask, read, data if is_final and not (snapped or threshold or shapes) else None)


def drawn_mask(shapes: Shapes, image_size: Size) -> DecodedMask:
    """The mask of what the shapes cover. Raises InvalidField."""
    mask = np.zeros(image_size[::-1], np.uint8)
    shapes.draw(mask)
    return _decoded(mask, _Read("white", "full", None, shapes.kinds, 0))


def border_mask(extension: Extension) -> DecodedMask:
    """The mask of what an extension adds to a photo."""
    mask = np.full(extension.size[::-1], 255, np.uint8)
    left, top, right, bottom = extension.photo
    mask[top:bottom, left:right] = 0
    return _decoded(mask, _Read("white", "full", None, ("border",), 0))


def found_mask(mask: Mask, sources: Sequence[MaskSource], subject: MaskSubject, score: float) -> DecodedMask:
    """The mask of a subject that was found, (H, W) of 0 and 255."""
    return _decoded(mask, _Read("white", "full", None, tuple(sources), 0, subject, score))


@dataclass(frozen=True)
class _Read:
    """How a mask came about: fields of its report."""

    mode: MaskMode
    scale: MaskScale
    threshold: float | None
    sources: tuple[MaskSource, ...]
    snapped: int
    subject: MaskSubject | None = None
    score: float | None = None


def _decoded(mask: Mask, read: _Read, png: bytes | None = None) -> DecodedMask:
    """``png``: a file of this very mask."""
    left, top, width, height = cv2.boundingRect(mask)
    report = MaskReport(
        **asdict(read) | {"sources": list(read.sources)},
        coverage=mask_values.coverage(mask),
        bbox=(left, top, left + width, top + height),
        soft=bool(cv2.countNonZero(cv2.inRange(mask, 1, 254))),
    )
    file, leaves_known = mask_values.encoded(mask) if png is None else png, not mask_values.hides_everything(mask)
    return DecodedMask(file, report, leaves_known, cells_of(mask))


def _is_final(image: Image.Image) -> bool:
    """Whether the file, if it is upright and read as white = repaint, is what the worker takes already."""
    return image.format == "PNG" and image.mode == "L" and not image.has_transparency_data


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    """Whether the values next to an edge are not those that were saved."""
    return image.format in ("JPEG", "MPO", "AVIF", "HEIF") or (image.format == "WEBP" and b"VP8L" not in data)


def _check_size(mask_size: Size, image_size: Size) -> None:
    if mask_size != image_size:
        mask, image = (f"{width} x {height}" for width, height in (mask_size, image_size))
        raise MaskSizeMismatch(
            f"mask: it is {mask} pixels and the image is {image}, both turned upright by their EXIF orientation. "
            "Send a mask of the image's size."
        )


def _check_strong(mask: Mask, mode: MaskMode) -> None:
    """Raise DoubtfulMask for one that repaints, and no pixel by half or more."""
    if 0 < (strongest := int(mask.max())) < STRONG:
        raise DoubtfulMask(
            f"mask: read by mask_mode={mode}, no pixel is repainted by more than {strongest} of 255, so the result "
            f"would be the upload or nearly so. {_EMPTY_ADVICE[mode]}"
        )


def _emptiness(mode: MaskMode, threshold: float | None, strongest: int) -> str:
    """``strongest``: the value of the strongest pixel, before the threshold."""
    empty = f"mask: read by mask_mode={mode}, it leaves nothing to repaint."
    if threshold and strongest:
        return (
            f"{empty} Its strongest pixel has {strongest} of 255, which is {strongest / 255:.3f}; "
            f"mask_threshold={threshold:g} leaves out what is below it. Send a lower mask_threshold."
        )
    return f"{empty} {_EMPTY_ADVICE[mode]}"


_EMPTY_ADVICE: dict[MaskMode, str] = {
    "white": "Paint white what is to be repainted; if black means that in this mask, say mask_mode=black.",
    "black": "Paint black what is to be repainted; if white means that in this mask, say mask_mode=white.",
    "alpha": "Make transparent what is to be repainted; if the painted part is, say mask_mode=alpha_inverted.",
    "auto": "",  # is read as one of the others, as is
    "drawn": "",
    "alpha_inverted": "Make opaque what is to be repainted; if the transparent part is, say mask_mode=alpha.",
}
