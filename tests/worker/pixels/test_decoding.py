"""A job's uploads in a child process: the same pixels as here, and no more cost than is allowed."""

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import ExifTags, Image

from jobs.errors import Undecodable
from jobs.sandbox.errors import Limits
from jobs.schema import OutputColor
from tests.factories import encoded
from worker.pixels import xmp
from worker.pixels.decoding import Decoders, decode_here

RNG = np.random.default_rng(0)
RGBA = Image.fromarray(RNG.integers(0, 256, (30, 41, 4), np.uint8))
EXIF = Image.Exif()
EXIF[ExifTags.Base.Make] = "maker"
CREDIT = b'<photoshop:Credit xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/">agency</photoshop:Credit>'
MASK = encoded(Image.fromarray(RNG.integers(0, 256, (30, 41), np.uint8)))
PHOTOS = {
    "colour": encoded(RGBA.convert("RGB")),
    "alpha": encoded(RGBA, dpi=(300, 300)),
    "grey": encoded(RGBA.convert("L")),
    "grey with alpha": encoded(RGBA.convert("LA")),
    "profile": encoded(RGBA.convert("RGB"), "JPEG", icc_profile=bytes(200_000)),
    "metadata": encoded(RGBA.convert("RGB"), "JPEG", exif=EXIF, xmp=xmp.packet(CREDIT, None)),
    "cmyk": encoded(RGBA.convert("RGB").convert("CMYK"), "JPEG"),
}


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    made = Decoders(1)
    yield made
    made.close()


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("output_color", ["auto", "rgb"])
def test_a_child_returns_what_this_process_would_make(decoders: Decoders, name: str, output_color: OutputColor) -> None:
    here, mask_here = decode_here({"image": PHOTOS[name], "mask": MASK}, output_color)
    there, mask_there = decoders({"image": PHOTOS[name], "mask": MASK}, output_color)
    assert np.array_equal(here.rgb, there.rgb) and np.array_equal(mask_here, mask_there)
    if here.alpha is None or there.alpha is None:
        assert here.alpha is there.alpha
    else:
        assert np.array_equal(here.alpha, there.alpha)
    assert (here.grey, here.chunks, here.report) == (there.grey, there.chunks, there.report)
    assert here.xmp == there.xmp == (CREDIT if name == "metadata" else b"")


def test_what_cannot_be_decoded_is_undecodable_and_the_next_job_is_read(decoders: Decoders) -> None:
    for image, mask in ((b"no picture", MASK), (PHOTOS["colour"], b"no mask"), (PHOTOS["colour"][:200], MASK)):
        with pytest.raises(Undecodable):
            decoders({"image": image, "mask": mask}, "auto")
    assert decoders({"image": PHOTOS["alpha"], "mask": MASK}, "auto")[0].size == (41, 30)


def test_what_breaks_a_limit_is_undecodable_too() -> None:
    tight = Limits(cpu_s=60, wall_s=60, memory_bytes=2**30, input_bytes=2**20, output_bytes=2_000)
    decoders = Decoders(1, tight)
    try:
        for _ in range(2):
            with pytest.raises(Undecodable, match="with the time and memory that are allowed"):
                decoders({"image": PHOTOS["colour"], "mask": MASK}, "auto")
    finally:
        decoders.close()


def test_a_child_keeps_the_metadata_that_is_asked_for(decoders: Decoders) -> None:
    picture, _ = decoders({"image": PHOTOS["metadata"], "mask": MASK}, "auto", "strip")
    assert picture.xmp == b"" and b"eXIf" not in dict(picture.chunks)
