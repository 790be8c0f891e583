"""The settled mask: by the mode that was named, upright, 8 bits, white = repaint. Nothing is guessed."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from app.masks import DecodedMask, decode_mask
from jobs.errors import DoubtfulMask, EmptyMask, InvalidMask, MaskSizeMismatch, TooLarge
from jobs.mask_values import NOISE, snap
from jobs.schema import MaskMode, MaskScale
from tests.app.pictures import BOX, SIZE, box_mask, with_orientation
from tests.app.settling import pixels
from tests.factories import encoded, mask_with

LIMIT = 1_000_000


def settle(
    image: Image.Image | bytes, mode: MaskMode = "white", size: tuple[int, int] = SIZE, scale: MaskScale = "full"
) -> DecodedMask:
    data = image if isinstance(image, bytes) else encoded(image)
    return decode_mask(data, mode, size, LIMIT, scale)


def with_alpha(alpha: Image.Image, colour: tuple[int, int, int] = (200, 30, 30)) -> Image.Image:
    image = Image.new("RGB", alpha.size, colour)
    image.putalpha(alpha)
    return image


BOX_PIXELS = np.asarray(box_mask())
INVERTED = ImageOps.invert(box_mask())
GREY = box_mask().convert("RGB")


@pytest.mark.parametrize(
    ("mode", "image"),
    [
        ("white", box_mask()),
        ("black", INVERTED),
        ("alpha", with_alpha(INVERTED)),
        ("alpha_inverted", with_alpha(box_mask())),
    ],
)
def test_the_four_modes_say_the_same_box(mode: MaskMode, image: Image.Image) -> None:
    settled = settle(image, mode)
    np.testing.assert_array_equal(pixels(settled), BOX_PIXELS)
    assert settled.report.mode == mode
    assert settled.report.bbox == BOX
    assert settled.report.coverage == 24 * 24 / (64 * 48)
    assert not settled.report.soft


LAYOUTS = {
    "PNG": ["1", "L", "P", "LA", "RGB", "RGBA"],
    "TIFF": ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK"],
    "WEBP": ["L", "P", "RGB", "RGBA"],
    "JPEG": ["L", "RGB", "CMYK"],
}


@pytest.mark.parametrize(
    ("file_format", "mode"), [(file_format, mode) for file_format, modes in LAYOUTS.items() for mode in modes]
)
def test_pixel_layouts_that_hold_the_same_grey_settle_alike(mode: str, file_format: str) -> None:
    image = box_mask().convert(mode)
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 100} if file_format == "JPEG" else {}
    data = encoded(image, file_format, **options)
    tolerance = 3 if file_format == "JPEG" else 0
    np.testing.assert_allclose(pixels(settle(data)).astype(int), BOX_PIXELS.astype(int), atol=tolerance)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_values_are_rounded_to_8(file_format: str) -> None:
    wide = np.zeros((48, 64), np.uint16)
    wide[0, :5] = [65_535, 32_767, 5_268, 5_269, 257 * 21]
    settled = settle(encoded(Image.fromarray(wide), file_format))
    assert pixels(settled)[0, :5].tolist() == [255, 127, 20, 21, 21]
    assert settled.report.soft


def test_every_16_bit_value_is_rounded_as_real_numbers_are() -> None:
    wide = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    settled = decode_mask(encoded(Image.fromarray(wide)), "white", (256, 256), LIMIT)
    np.testing.assert_array_equal(pixels(settled), snap(np.rint(wide / 257).astype(np.uint8))[0])


def test_floating_point_values_from_0_to_1_are_taken() -> None:
    values = np.zeros((48, 64), np.float32)
    values[0, :2] = [1, 0.5]
    assert pixels(settle(encoded(Image.fromarray(values), "TIFF")))[0, :2].tolist() == [255, 128]


@pytest.mark.parametrize("value", [255.0, -0.1, np.nan])
def test_other_floating_point_values_are_refused(value: float) -> None:
    with pytest.raises(InvalidMask, match="leave 0 to 1"):
        settle(encoded(Image.fromarray(np.full((48, 64), value, np.float32)), "TIFF"))


def test_32_bit_values_are_refused() -> None:
    with pytest.raises(InvalidMask, match="32 bits"):
        settle(encoded(Image.fromarray(np.full((48, 64), 70_000, np.int32)), "TIFF"))


def test_a_palettes_transparency_is_an_alpha_channel() -> None:
    palette = box_mask().convert("P")
    white = int(np.asarray(palette).max())
    np.testing.assert_array_equal(pixels(settle(encoded(palette, transparency=white), "alpha")), BOX_PIXELS)


def test_grey_values_stay_and_are_reported_as_soft() -> None:
    ramp = Image.linear_gradient("L").resize(SIZE)
    settled = settle(ramp)
    values = np.asarray(ramp)
    np.testing.assert_array_equal(pixels(settled), snap(values)[0])
    assert settled.report.soft
    assert settled.report.snapped == np.count_nonzero(snap(values)[0] != values) > 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_mask_is_turned_upright(orientation: int) -> None:
    stored = box_mask((48, 64) if orientation >= 5 else SIZE, (0, 0, 10, 20))
    data = with_orientation(stored, orientation, "PNG")
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected is not None
    np.testing.assert_array_equal(pixels(settle(data)), np.asarray(expected))


@pytest.mark.parametrize("mode", ["alpha", "alpha_inverted"])
def test_alpha_modes_refuse_a_mask_without_alpha(mode: MaskMode) -> None:
    with pytest.raises(InvalidMask, match="needs an alpha channel"):
        settle(box_mask(), mode)


@pytest.mark.parametrize("mode", ["white", "black"])
def test_grey_modes_refuse_transparency_and_point_to_alpha(mode: MaskMode) -> None:
    with pytest.raises(InvalidMask, match="mask_mode=alpha"):
        settle(with_alpha(INVERTED), mode)


def test_grey_modes_take_an_alpha_channel_that_is_opaque() -> None:
    image = GREY.copy()
    image.putalpha(255)
    np.testing.assert_array_equal(pixels(settle(image)), BOX_PIXELS)


@pytest.mark.parametrize(("difference", "accepted"), [(2, True), (3, False)])
def test_colours_are_refused_but_for_two_levels(difference: int, accepted: bool) -> None:
    rgb = np.stack([BOX_PIXELS] * 3, axis=-1).copy()
    rgb[0, 0] = [100, 100 + difference, 100]
    if accepted:
        assert pixels(settle(Image.fromarray(rgb)))[0, 0] == 102
    else:
        with pytest.raises(InvalidMask, match="it has colours"):
            settle(Image.fromarray(rgb))


@pytest.mark.parametrize(
    ("mode", "image"),
    [
        ("white", Image.new("L", SIZE, 0)),
        ("black", Image.new("L", SIZE, 255)),
        ("alpha", with_alpha(Image.new("L", SIZE, 255))),
        ("alpha_inverted", with_alpha(Image.new("L", SIZE, 0))),
    ],
)
def test_a_mask_that_repaints_nothing_is_refused_with_the_likely_cure(mode: MaskMode, image: Image.Image) -> None:
    with pytest.raises(EmptyMask, match="nothing to repaint") as caught:
        settle(image, mode)
    assert caught.value.code == "empty_mask"


def test_a_mask_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(MaskSizeMismatch, match="32 x 24 pixels and the image is 64 x 48"):
        settle(box_mask((32, 24)))


def test_a_huge_mask_is_refused_by_its_header() -> None:
    with pytest.raises(TooLarge, match="mask: "):
        decode_mask(encoded(Image.new("L", (2000, 2000))), "white", SIZE, LIMIT)


def test_a_truncated_mask_is_refused() -> None:
    data = encoded(Image.effect_noise(SIZE, 50))
    with pytest.raises(InvalidMask, match="damaged or cut short"):
        settle(data[: len(data) // 2])


def marked(ground: float, hole: float, dtype: type = np.uint8) -> Image.Image:
    values: NDArray[Any] = np.full((SIZE[1], SIZE[0]), ground, dtype)
    values[10:34, 12:36] = hole
    return Image.fromarray(values)


HOLE = mask_with(np.s_[10:34, 12:36], (SIZE[1], SIZE[0]))


@pytest.mark.parametrize("ground", [0, 1, 3, NOISE])
@pytest.mark.parametrize("hole", [255, 254, 255 - NOISE])
def test_noise_near_black_and_white_is_read_as_black_and_white_and_echoed(ground: int, hole: int) -> None:
    uploads: dict[MaskMode, Image.Image] = {
        "white": marked(ground, hole),
        "black": marked(255 - ground, 255 - hole),
    }
    for mode, image in uploads.items():
        settled = settle(image, mode)
        np.testing.assert_array_equal(pixels(settled), HOLE)
        noisy = (ground > 0) * np.count_nonzero(HOLE == 0) + (hole < 255) * np.count_nonzero(HOLE)
        assert settled.report.snapped == noisy
        assert not settled.report.soft and settled.report.bbox == (12, 10, 36, 34)


def test_a_jpegs_ground_and_core_are_black_and_white() -> None:
    for quality in (75, 90, 95):
        mask = pixels(settle(encoded(marked(0, 255), "JPEG", quality=quality)))
        assert (mask[:2] == 0).all() and (mask[18:26, 20:28] == 255).all()


UNSCALED = {
    "0 and 1": marked(0, 1),
    "0 and 1 in 16 bits": marked(0, 1, np.uint16),
    "0 to 255 in 16 bits": marked(0, 255, np.uint16),
    "0 and 100": marked(0, 100),
    "0 and 1 in floats of 0 to 255": marked(0, 1 / 255, np.float32),
    "12 bits in 16": marked(0, 4095, np.uint16),
}


@pytest.mark.parametrize("name", UNSCALED)
@pytest.mark.parametrize("mode", ["white", "black"])
def test_a_mask_far_from_full_strength_is_doubtful_and_the_remedy_works(name: str, mode: MaskMode) -> None:
    data = encoded(UNSCALED[name], "TIFF")
    largest = np.asarray(UNSCALED[name]).max()
    with pytest.raises(DoubtfulMask, match=f"largest grey value is {largest:g} of .*mask_scale=binary.*multiply"):
        settle(data, mode)
    settled = settle(data, mode, scale="binary")
    np.testing.assert_array_equal(pixels(settled), HOLE if mode == "white" else 255 - HOLE)
    assert settled.report.scale == "binary"


def test_an_alpha_channel_of_0_and_1_is_doubtful_too() -> None:
    with pytest.raises(DoubtfulMask, match="largest alpha value is 1 of 255"):
        settle(with_alpha(marked(0, 1)), "alpha_inverted")
    np.testing.assert_array_equal(pixels(settle(with_alpha(marked(0, 1)), "alpha_inverted", scale="binary")), HOLE)


@pytest.mark.parametrize(
    ("mode", "image"),
    [("black", marked(255, 180)), ("alpha", with_alpha(marked(255, 180))), ("white", marked(0, 127))],
)
def test_a_mask_whose_strongest_value_is_weak_is_doubtful(mode: MaskMode, image: Image.Image) -> None:
    with pytest.raises(DoubtfulMask):
        settle(image, mode)


def test_a_mask_that_is_half_strength_at_its_strongest_is_taken() -> None:
    assert pixels(settle(marked(0, 128)))[20, 20] == 128


def test_a_full_mask_leaves_nothing_known() -> None:
    assert settle(box_mask()).leaves_known
    assert not settle(Image.new("L", SIZE, 255)).leaves_known
    assert not settle(Image.new("L", SIZE, 0), "black").leaves_known


@pytest.mark.parametrize(("kind", "quality"), [("JPEG", 75), ("JPEG", 90), ("WEBP", 75)])
def test_a_lossy_files_ringing_leaves_no_hole_in_the_core_and_no_veil_on_the_ground(kind: str, quality: int) -> None:
    mask = pixels(settle(encoded(Image.fromarray(HOLE), kind, quality=quality)))
    assert np.count_nonzero((mask != HOLE)[12:32, 14:34]) == 0  # two pixels within the edge
    outside = mask.copy()
    outside[8:36, 10:38] = 0
    assert not outside.any()


def test_a_lossless_webp_keeps_its_values() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    mask = pixels(settle(encoded(Image.fromarray(ramp), "WEBP", lossless=True)))
    np.testing.assert_array_equal(mask, snap(ramp)[0])
