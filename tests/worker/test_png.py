import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from worker.png import PngWriter


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([3, 4]), st.integers(0, 2**32 - 1))
def test_pillow_reads_back_the_same_pixels(width: int, height: int, channels: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    with Image.open(io.BytesIO(PngWriter(pixels).finish({}))) as image:
        assert (np.asarray(image) == pixels).all()
        assert image.mode == {3: "RGB", 4: "RGBA"}[channels]


def test_text_and_colour_profile_are_carried() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = PngWriter(np.zeros((4, 4, 3), np.uint8), profile).finish({"infill": '{"a": "é"}'})
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info["infill"] == '{"a": "é"}'
        assert image.info["icc_profile"] == profile
