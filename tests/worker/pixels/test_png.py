import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests.png_files import chunks_of, iccp
from worker.pixels.png import PngWriter

MODES = {(): "L", (2,): "LA", (3,): "RGB", (4,): "RGBA"}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(list(MODES)), st.integers(0, 2**32 - 1))
def test_pillow_reads_back_the_same_pixels(width: int, height: int, channels: tuple[int, ...], seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    with Image.open(io.BytesIO(PngWriter(pixels).finish({}))) as image:
        assert (np.asarray(image) == pixels).all()
        assert image.mode == MODES[channels]


def test_text_and_colour_profile_are_carried() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = PngWriter(np.zeros((4, 4, 3), np.uint8), [iccp(profile)]).finish({"infill": '{"a": "é"}'})
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info["infill"] == '{"a": "é"}'
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("channels", MODES)
def test_what_says_how_the_pixels_look_stands_before_them_in_the_given_order(channels: tuple[int, ...]) -> None:
    said = [(b"cICP", b"\1\15\0\1"), (b"gAMA", bytes(4)), (b"pHYs", bytes(9))]
    written = chunks_of(PngWriter(np.zeros((4, 4, *channels), np.uint8), said).finish({"infill": "x"}))
    assert [kind for kind, _ in written] == [b"IHDR", b"cICP", b"gAMA", b"pHYs", b"iTXt", b"IDAT", b"IEND"]
    assert written[1:4] == said
