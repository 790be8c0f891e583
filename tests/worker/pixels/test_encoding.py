"""Results as JPEG, WebP and AVIF: read by OpenCV, which the worker does not write them with."""

import io
import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from jobs.outputs import LONGEST_PX
from jobs.schema import OutputFormat
from tests.factories import encoded, noise, png
from tests.icc_profiles import DISPLAY_P3, grey_profile, rgb_profile
from tests.png_files import with_chunks
from tests.worker.displayed import displayed
from tests.worker.painting import JOB_ID, MASK, repaint
from worker.pixels.encoding import PillowWriter

KEPT = MASK == 0
LOSSY: tuple[OutputFormat, ...] = ("jpeg", "webp", "avif")
EVERY_VALUE = "webp", 100

ROWS, COLUMNS = MASK.shape
CALM = cv2.resize(noise((6, 8, 4)), (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)
"""What a codec makes small: broad soft spots."""
PHOTOS = {"L": CALM[..., 0], "LA": CALM[..., ::3], "RGB": CALM[..., :3], "RGBA": CALM}
READ_AS = {
    "jpeg": {"L": "L", "RGB": "RGB"},
    "webp": {"L": "RGB", "LA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"},
    "avif": {"L": "L", "LA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"},
}
CASES = [(kind, mode) for kind, modes in READ_AS.items() for mode in modes]


def photo_of(mode: str) -> bytes:
    return png(np.ascontiguousarray(PHOTOS[mode]))


def read(data: bytes) -> np.ndarray:
    """By OpenCV: (H, W), RGB or RGBA."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, "OpenCV cannot read it"
    order = {2: None, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[pixels.shape[2] if pixels.ndim == 3 else 2]
    found: np.ndarray = pixels if order is None else cv2.cvtColor(pixels, order)
    return found


def as_read(photo: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The photo with as many channels."""
    mode = {2: "L", 3: "RGB", 4: "RGBA"}[shape[2] if len(shape) == 3 else 2]
    return np.asarray(Image.fromarray(photo).convert(mode))


def exif_of(data: bytes) -> Image.Exif:
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif()


def described(data: bytes) -> dict[str, object]:
    comment = exif_of(data).get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment[:8] == b"ASCII\0\0\0"
    found: dict[str, object] = json.loads(comment[8:])
    return found


@pytest.mark.parametrize(("kind", "mode"), CASES)
def test_outside_the_mask_a_result_is_near_its_photo_and_inside_it_is_not(kind: OutputFormat, mode: str) -> None:
    photo = np.ascontiguousarray(PHOTOS[mode])
    report, (result,) = repaint(png(photo), output_format=kind)
    pixels = read(result)
    assert report.images[0].content_type == f"image/{kind}" and report.images[0].size_bytes == len(result)
    assert report.approximate == ["lossy_format"] and report.mask.changed_outside_mask == 0
    off = np.abs(pixels.astype(int) - as_read(photo, pixels.shape))
    assert off[KEPT].mean() < 6 and off[~KEPT].mean() > 20
    if mode in ("LA", "RGBA"):
        assert (pixels[..., 3][KEPT] == photo[..., -1][KEPT]).all() or kind == "avif"
    with Image.open(io.BytesIO(result)) as image:
        assert (image.format, image.mode, image.size) == (kind.upper(), READ_AS[kind][mode], (COLUMNS, ROWS))


@pytest.mark.parametrize("mode", READ_AS["webp"])
def test_the_best_quality_of_webp_keeps_every_value(mode: str) -> None:
    photo = np.ascontiguousarray(PHOTOS[mode])
    for result, as_png in zip(
        repaint(png(photo), output_format="webp", output_quality=100)[1], repaint(png(photo))[1], strict=True
    ):
        with Image.open(io.BytesIO(result)) as image, Image.open(io.BytesIO(as_png)) as exact:
            assert (np.asarray(image) == np.asarray(exact.convert(image.mode))).all()  # of what is transparent, too
            assert (np.asarray(image)[KEPT] == as_read(photo, np.asarray(image).shape)[KEPT]).all()
    report, _ = repaint(png(photo), output_format="webp", output_quality=100)
    assert report.approximate == []


@pytest.mark.parametrize("kind", LOSSY)
def test_a_better_quality_is_nearer_and_takes_more_bytes(kind: OutputFormat) -> None:
    found = []
    for quality in (10, 60, 95):
        _, (result,) = repaint(photo_of("RGB"), output_format=kind, output_quality=quality)
        found.append((len(result), -np.abs(read(result).astype(int) - PHOTOS["RGB"])[KEPT].mean()))
    assert found == sorted(found) and len({size for size, _ in found}) == 3


@pytest.mark.parametrize("kind", LOSSY)
def test_a_result_describes_itself_in_exif_and_does_not_hold_its_jobs_id(kind: OutputFormat) -> None:
    report, results = repaint(photo_of("RGB"), output_format=kind, n=2, seed=7)
    assert [described(result)["seed"] for result in results] == report.seeds == [7, 8]
    assert described(results[0])["approximate"] == ["lossy_format"]
    assert JOB_ID.encode() not in results[0] + results[1]


@pytest.mark.parametrize("kind", LOSSY)
def test_without_its_photos_metadata_a_result_has_no_more_exif(kind: OutputFormat) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = 3, "maker"
    _, (result,) = repaint(
        encoded(Image.fromarray(CALM[..., :3]), "JPEG", exif=exif), output_format=kind, metadata="strip"
    )
    assert dict(exif_of(result)).keys() == {ExifTags.IFD.Exif} and b"maker" not in result


# ---- colours and density

P3_CICP = (b"cICP", bytes([12, 13, 0, 1]))
LINEAR_CICP = (b"cICP", bytes([9, 8, 0, 1]))
PQ_CICP = (b"cICP", bytes([9, 16, 0, 1]))
SRGB = (b"sRGB", b"\1")
LINEAR = (b"gAMA", struct.pack(">I", 100_000))
P3_CHRM = (b"cHRM", struct.pack(">8I", *(round(value * 100_000) for xy in DISPLAY_P3 for value in xy)))
NO_COLOURS = (b"cHRM", struct.pack(">8I", 31_270, 32_900, *[30_000, 30_000] * 3))
STATEMENTS = {
    "nothing": [],
    "P3": [P3_CICP],
    "linear": [LINEAR_CICP],
    "sRGB": [SRGB],
    "gamma": [LINEAR],
    "gamma and primaries": [LINEAR, P3_CHRM],
}


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("said", [*STATEMENTS, "profile"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_result_looks_as_its_photo_does_outside_the_mask(kind: OutputFormat, said: str, mode: str) -> None:
    if said == "profile":
        photo = png(np.ascontiguousarray(PHOTOS[mode]), icc_profile={"RGB": rgb_profile, "L": grey_profile}[mode](1.8))
    else:
        photo = with_chunks(photo_of(mode), *STATEMENTS[said])
    report, (result,) = repaint(photo, output_format=kind, output_quality=100)
    assert report.picture and report.picture.color_action == ("none" if said == "nothing" else "carried")
    difference = np.linalg.norm(displayed(result) - displayed(photo), axis=-1)[KEPT]
    assert difference.mean() < (1 if kind == "webp" else 3)
    colour_space = exif_of(result).get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
    assert colour_space == {"nothing": None, "sRGB": 1}.get(said, 0xFFFF)


@pytest.mark.parametrize("kind", LOSSY)
def test_a_profile_of_rgb_values_is_carried_as_it_is(kind: OutputFormat) -> None:
    profile = rgb_profile(1.8, 70_000)
    _, (result,) = repaint(png(CALM[..., :3].copy(), icc_profile=profile), output_format=kind)
    with Image.open(io.BytesIO(result)) as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("said", [PQ_CICP, NO_COLOURS, (b"cICP", bytes([12, 13, 0, 0]))], ids=["PQ", "none", "narrow"])
def test_what_no_profile_says_is_reported_as_ignored(kind: OutputFormat, said: tuple[bytes, bytes]) -> None:
    photo = with_chunks(photo_of("RGB"), said)
    report, (result,) = repaint(photo, output_format=kind)
    assert report.picture and report.picture.color_action == "ignored"
    with Image.open(io.BytesIO(result)) as image:
        assert not image.info.get("icc_profile")
    kept, _ = repaint(photo)
    assert kept.picture and kept.picture.color_action == "carried"


def test_a_jpeg_has_no_room_for_the_longest_profile() -> None:
    chunks = ((b"iCCP", b"icc\0\0" + zlib.compress(rgb_profile(1.8, 255 * 65_519), 0)),)
    pixels = np.ascontiguousarray(CALM[..., :3])
    assert not PillowWriter(pixels, chunks, "jpeg", 90).states_colours
    assert PillowWriter(pixels, chunks, "webp", 90).states_colours
    assert len(PillowWriter(pixels, chunks, "jpeg", 90).finish({"infill": "{}"})) < 20_000


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize(("phys", "unit"), [((11_811, 5_906, 1), 2), ((2, 1, 0), 1)], ids=["density", "shape"])
def test_the_density_is_carried(kind: OutputFormat, phys: tuple[int, int, int], unit: int) -> None:
    photo = with_chunks(photo_of("RGB"), (b"pHYs", struct.pack(">IIB", *phys)))
    exif = exif_of(repaint(photo, output_format=kind)[1][0])
    across, down = (float(exif[tag]) for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution))
    scale = 0.0254 if phys[2] else 1
    assert (across, down) == pytest.approx((phys[0] * scale, phys[1] * scale), rel=1e-4)
    assert exif[ExifTags.Base.ResolutionUnit] == unit


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 1)])
def test_the_smallest_pictures_are_encoded(kind: OutputFormat, size: tuple[int, int]) -> None:
    data = PillowWriter(np.full((*size, 3), 99, np.uint8), (), kind, 90).finish({"infill": "{}"})
    assert read(data).shape == (*size, 3)


@pytest.mark.parametrize("kind", LOSSY)
def test_the_longest_side_that_is_allowed_is_encoded_and_read(kind: OutputFormat) -> None:
    data = PillowWriter(np.full((2, LONGEST_PX[kind], 3), 99, np.uint8), (), kind, 90).finish({"infill": "{}"})
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (LONGEST_PX[kind], 2)
