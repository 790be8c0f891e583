"""A result is taken as a photo again, and changes no more: the worker's code, then the API's check of uploads."""

import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.masks import decode_mask
from app.uploads import check_image
from jobs.errors import RequestError, Undecodable
from jobs.png_chunks import SIGNATURE
from tests import tiff_files
from tests.factories import encoded, noise, png
from tests.icc_profiles import grey_profile, rgb_profile
from tests.png_files import iccp, png_of, with_chunks, zipped
from tests.tiff_files import tiff_of
from tests.worker.painting import MASK, repaint
from worker.pixels import pictures

GREY = noise((48, 64))
RGB = noise((48, 64, 3))
DEEP = RGB.astype(np.uint16) * 257 + 3
KEPT = MASK == 0
PIXELS = 64 * 48

PHOTOS = {
    "rgb": png(RGB),
    "rgba": png(np.dstack([RGB, GREY])),
    "grey": png(GREY),
    "grey alpha": png(np.dstack([GREY, GREY])),
    "16 bit": png_of(DEEP, 16, 2),
    "16 bit, one colour transparent": png_of(DEEP, 16, 2, (b"tRNS", bytes(6))),
    "2 bit": png_of(GREY >> 6, 2, 0),
    "palette": encoded(Image.fromarray(RGB).quantize(16), transparency=3),
    "jpeg, profile of 2 MB": encoded(Image.fromarray(RGB), "JPEG", icc_profile=rgb_profile(1.8, 2_000_000)),
    "png, profile of 2 MB": with_chunks(png(GREY), iccp(grey_profile(1.8, 2_000_000))),
    "cmyk": encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    "chunks": with_chunks(png(RGB), (b"cICP", b"\14\15\0\1"), (b"gAMA", b"\0\0\xb1\x8f"), (b"mDCV", bytes(24))),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_what_the_service_returns_it_accepts_and_keeps(name: str) -> None:
    photo = pictures.decode(PHOTOS[name])
    report, (first,) = repaint(PHOTOS[name])
    assert report.images[0].size_bytes == len(first)
    assert check_image(first, PIXELS).size == (64, 48)
    again = pictures.decode(first)
    assert again.chunks == photo.chunks
    assert again.grey == photo.grey and (again.rgb[KEPT] == photo.rgb[KEPT]).all()
    _, (second,) = repaint(first)
    assert pictures.decode(second).chunks == photo.chunks
    assert (pictures.decode(second).rgb[KEPT] == photo.rgb[KEPT]).all()


SEEDS = [
    *PHOTOS.values(),
    png_of(np.dstack([DEEP, DEEP[..., 0]])[:9, :9], 16, 6),
    png_of(DEEP[:9, :9, :2], 16, 4),
    tiff_of(DEEP[:9, :9], tiff_files.RGB),
    tiff_of(np.dstack([DEEP, DEEP[..., 0]])[:9, :9], tiff_files.RGB, {tiff_files.EXTRA_SAMPLES: (1,)}),
    tiff_of(np.dstack([DEEP, DEEP[..., 0]])[:9, :9], tiff_files.CMYK),
    tiff_of(GREY[:9, :9].astype(np.uint16), tiff_files.WHITE_IS_ZERO, {tiff_files.ORIENTATION: (6,)}),
    encoded(Image.fromarray(GREY), "JPEG", icc_profile=grey_profile(1.0), dpi=(300, 300)),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.large_base_example, HealthCheck.too_slow])
@given(st.sampled_from([seed for seed in SEEDS if len(seed) < 50_000]), st.data())
def test_what_the_api_accepts_the_worker_decodes_or_names_as_undecodable(seed: bytes, data: st.DataObject) -> None:
    file = bytearray(seed)
    for at in data.draw(st.lists(st.integers(0, len(file) - 1), min_size=1, max_size=3)):
        file[at] = data.draw(st.integers(0, 255))
    photo = bytes(file)
    if photo.startswith(SIGNATURE):  # with checksums made anew, or none would come through
        photo = with_sound_checksums(photo)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            size = check_image(photo, PIXELS).size
        except RequestError:
            return
        with suppress(Undecodable):
            assert pictures.decode(photo).size == size


def with_sound_checksums(png: bytes) -> bytes:
    file, at = bytearray(png), len(SIGNATURE)
    while at + 12 <= len(file):
        end = at + 8 + int.from_bytes(file[at : at + 4])
        file[end : end + 4] = zlib.crc32(file[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(file[: len(png)])


def test_a_mask_with_texts_of_any_size_is_settled_and_read() -> None:
    mask = with_chunks(png(MASK), zipped(bytes(3_000_000)), iccp(grey_profile(1.0, 2_000_000)))
    settled = decode_mask(mask, "white", (64, 48), PIXELS)
    assert (pictures.decode_mask(settled.png) == MASK).all()
