"""With bit_depth=keep a photo of 16 bits a channel comes back with 16: outside the mask every bit is the photo's."""

import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from jobs.errors import Undecodable
from jobs.regions import Region
from jobs.schema import JobReport
from tests import png_files, tiff_files
from tests.factories import encoded, mask_with, noise, png
from tests.icc_profiles import grey_profile
from tests.png_files import chunks_of, png_of, with_chunks
from tests.tiff_files import tiff_of
from tests.worker.painting import ENTRY, MASK, repaint
from tests.worker.tasks import task_of
from worker.pixels import masks, pictures, regions
from worker.pixels.decoding import Decoders, decode_here
from worker.pixels.png import PngWriter

KINDS = {1: png_files.GREY, 2: png_files.GREY_ALPHA, 3: png_files.RGB, 4: png_files.RGB_ALPHA}
KEPT = MASK == 0


def deep(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(seed).integers(0, 65_536, shape, np.uint16)


def values_of(file: bytes) -> np.ndarray[Any, Any]:
    """(H, W, C) by OpenCV, in RGB's order; it reads grey with alpha as RGBA."""
    found = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    assert found is not None
    if found.ndim == 2:
        return np.asarray(found[..., None])
    return np.asarray(found[..., [2, 1, 0, 3][: found.shape[2]]])


def as_read(samples: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return samples if samples.shape[2] != 2 else samples[..., [0, 0, 0, 1]]


def header(file: bytes) -> tuple[int, int]:
    """Bits and colour type."""
    return file[24], file[25]


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 200),
    height=st.integers(1, 200),
    channels=st.sampled_from(list(KINDS)),
    is_tiff=st.booleans(),
    soft=st.booleans(),
    crop=st.sampled_from(["auto", "off"]),
    grow=st.integers(0, 15),
    feather=st.integers(0, 15),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_value_where_the_effective_mask_is_0_is_equal_to_the_bit(
    width: int,
    height: int,
    channels: int,
    is_tiff: bool,
    soft: bool,
    crop: str,
    grow: int,
    feather: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    photo = deep((height, width, channels), seed)
    mask = np.zeros((height, width), np.uint8)
    hole = mask[rng.integers(0, height) :, rng.integers(0, width) :][:90, :90]
    hole[:] = rng.integers(0, 256, hole.shape) if soft else 255
    hole[0, 0] = 255
    if is_tiff:
        extra = {tiff_files.EXTRA_SAMPLES: (2,)} if channels in (2, 4) else {}
        if channels == 2:  # Pillow reads no such TIFF
            return
        kind = tiff_files.BLACK_IS_ZERO if channels == 1 else tiff_files.RGB
        file = tiff_of(photo.squeeze(axis=2) if channels == 1 else photo, kind, extra)
    else:
        file = png_of(photo, 16, KINDS[channels])

    report, (result,) = repaint(file, mask, crop=crop, mask_grow=grow, mask_feather=feather, bit_depth="keep")

    assert report.mask.changed_outside_mask == 0 and report.approximate is not None
    assert "depth_reduced" not in report.approximate
    assert report.picture is not None and (report.picture.bits, report.picture.bit_depth) == (16, 16)
    assert header(result) == (16, KINDS[channels])
    kept = masks.effective_mask(mask, grow, feather) == 0
    assert (values_of(result)[kept] == as_read(photo)[kept]).all()


@pytest.mark.parametrize("channels", KINDS)
def test_what_is_painted_wholly_is_a_multiple_of_257(channels: int) -> None:
    _, (result,) = repaint(png_of(deep((48, 64, channels)), 16, KINDS[channels]), bit_depth="keep")
    painted = values_of(result)[MASK == 255]
    assert (painted % 257 == 0).all() and len(np.unique(painted)) > 50
    if channels in (2, 4):
        assert (painted[..., -1] == 65_535).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_a_soft_border_is_blended_in_16_bits(channels: int) -> None:
    known, painted = deep((64, 64, channels)), noise((64, 64, 3))
    weight = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
    region = Region(box=(0, 0, 64, 64), canvas=(64, 64), inner=(0, 0, 64, 64))
    found = regions.paste(known, painted, region, weight)
    share = weight[..., None] / 255
    opaque = known[..., 3:] / 65_535 if channels == 4 else np.ones((64, 64, 1))
    opacity = share + (1 - share) * opaque
    below = (1 - share) * opaque * known[..., :3]
    exact = (share * painted.astype(float) * 257 + below) / np.maximum(opacity, 1e-9)
    assert found.dtype == np.uint16
    inside = weight > 0
    assert np.abs(found[..., :3] - exact)[inside].max() <= 0.51
    assert (found[weight == 0] == known[weight == 0]).all()
    if channels == 4:
        assert np.abs(found[..., 3:] - opacity * 65_535).max() <= 0.51


def test_8_bits_a_channel_stay_8() -> None:
    photo = noise((48, 64, 3))
    report, (result,) = repaint(png(photo), bit_depth="keep")
    assert report.picture is not None and report.picture.bit_depth == 8 and header(result)[0] == 8
    assert report == report.model_copy(update={"approximate": []})
    assert (values_of(result)[KEPT] == photo[KEPT]).all()


def test_by_default_the_result_has_8_bits_and_says_so() -> None:
    report, (result,) = repaint(png_of(deep((48, 64, 3)), 16, png_files.RGB))
    assert report.picture is not None and (report.picture.bits, report.picture.bit_depth) == (16, 8)
    assert report.approximate == ["depth_reduced"] and header(result)[0] == 8


def test_a_grey_photo_can_come_back_in_colour() -> None:
    photo = deep((48, 64, 1))
    _, (result,) = repaint(png_of(photo, 16, png_files.GREY), bit_depth="keep", output_color="rgb")
    assert header(result) == (16, png_files.RGB)
    assert (values_of(result)[KEPT] == photo[KEPT]).all()


@pytest.mark.parametrize("grey", [True, False])
def test_a_transparent_colour_becomes_alpha_of_16_bits(grey: bool) -> None:
    photo = deep((48, 64, 1 if grey else 3))
    place = 0, 0
    value = struct.pack(">H" if grey else ">3H", *(int(each) for each in photo[place]))
    file = png_of(photo, 16, png_files.GREY if grey else png_files.RGB, (b"tRNS", value))
    _, (result,) = repaint(file, bit_depth="keep")
    alpha = values_of(result)[..., -1]
    assert header(result)[1] == (png_files.GREY_ALPHA if grey else png_files.RGB_ALPHA)
    assert alpha[place] == 0 and alpha[0, 1] == 65_535


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_a_photo_is_turned_as_one_of_8_bits_is(kind: str, orientation: int) -> None:
    photo = noise((30, 41, 3)).astype(np.uint16) * 257
    if kind == "tiff":
        file = tiff_of(photo, tiff_files.RGB, {tiff_files.ORIENTATION: (orientation,)})
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        file = with_chunks(png_of(photo, 16, png_files.RGB), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    wide, narrow = pictures.decode(file, bit_depth="keep"), pictures.decode(file)
    assert wide.wide is not None and (wide.rgb == narrow.rgb).all()
    assert (wide.wide == narrow.rgb.astype(np.uint16) * 257).all()


@pytest.mark.parametrize("channels", KINDS)
def test_the_8_bits_that_the_network_sees_are_those_of_the_default(channels: int) -> None:
    file = png_of(deep((40, 50, channels)), 16, KINDS[channels])
    wide, narrow = pictures.decode(file, bit_depth="keep"), pictures.decode(file)
    assert (wide.rgb == narrow.rgb).all() and wide.grey == narrow.grey
    assert (wide.alpha is None and narrow.alpha is None) or (wide.alpha == narrow.alpha).all()  # type: ignore[union-attr]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_extended_photo_is_a_part_of_the_result_to_the_bit(channels: int) -> None:
    photo = deep((40, 50, channels))
    borders = {"left": 9, "top": 0, "right": 7, "bottom": 5, "width": 66, "height": 45}
    mask = np.full((45, 66), 255, np.uint8)
    mask[0:40, 9:59] = 0
    file = png_of(photo, 16, KINDS[channels])
    _, (result,) = repaint(file, mask, task="extend", extend=borders, bit_depth="keep")
    found = values_of(result)
    assert found.shape[:2] == (45, 66) and (found[0:40, 9:59] == as_read(photo)).all()


def test_its_profile_metadata_and_mark_are_carried() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "maker"
    file = with_chunks(
        png_of(deep((48, 64, 1)), 16, png_files.GREY),
        png_files.iccp(grey_profile(1.8)),
        (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
    )
    report, (result,) = repaint(file, bit_depth="keep")
    kinds = [kind for kind, _ in chunks_of(result)]
    assert {b"iCCP", b"eXIf"} <= set(kinds) and kinds.count(b"iTXt") == 2
    assert report.picture is not None and report.picture.color_action == "carried"
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        assert json.loads(image.info["infill"])["approximate"] == []


def test_what_would_be_converted_in_8_bits_is_no_result() -> None:
    cmyk = tiff_of(deep((48, 64, 4)), tiff_files.CMYK)
    grey = with_chunks(png_of(deep((48, 64, 1)), 16, png_files.GREY), png_files.iccp(grey_profile(1.8)))
    for file, colour in ((cmyk, "auto"), (grey, "rgb")):
        with pytest.raises(Undecodable, match="bit_depth: "):
            repaint(file, bit_depth="keep", output_color=colour)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(1)
    yield made
    made.close()


@pytest.mark.parametrize("channels", KINDS)
def test_a_child_returns_the_16_bits_too(decoders: Decoders, channels: int) -> None:
    inputs: Any = {
        "image": png_of(deep((31, 41, channels)), 16, KINDS[channels]),
        "mask": png(mask_with(np.s_[2:9, 3:9], (31, 41))),
    }
    here, _ = decode_here(inputs, "auto", "keep", "keep")
    there, _ = decoders(inputs, "auto", "keep", "keep")
    assert here.wide is not None and there.wide is not None and (here.wide == there.wide).all()
    assert there.wide.dtype == np.uint16 and (here.rgb == there.rgb).all()


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 2), (7, 5, 3), (7, 5, 4)])
def test_a_png_of_16_bits_is_read_as_it_was_written(shape: tuple[int, ...]) -> None:
    samples = deep(shape)
    found = values_of(PngWriter(samples).finish({}))
    assert (found == as_read(samples.reshape(*shape[:2], -1))).all()


def test_n_images_have_16_bits_each() -> None:
    photo = deep((48, 64, 3))
    one = task_of(ENTRY, n=3, bit_depth="keep")
    (canvas,) = one.open({"image": png_of(photo, 16, png_files.RGB), "mask": png(MASK)})
    report = one.close(noise((3, *canvas.image.shape)))
    assert isinstance(report, JobReport) and report.mask.changed_outside_mask == 0
    found = [values_of(image) for image in one.images]
    assert all((each[KEPT] == photo[KEPT]).all() for each in found)
    assert len({each.tobytes() for each in found}) == 3


def test_a_jpeg_has_nothing_to_keep() -> None:
    report, (result,) = repaint(encoded(Image.fromarray(noise((48, 64, 3))), "JPEG"), bit_depth="keep")
    assert report.picture is not None and report.picture.bit_depth == header(result)[0] == 8
