"""Results in every format over the real stack, read by OpenCV."""

import io
import json
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.e2e.edits import Pixels
from tests.e2e.stack import MASK, submit
from tests.factories import multipart

FAST: dict[str, Any] = {"num_inference_steps": 1, "strength": 1, "seed": 1}
SUFFIXES = {"png": "png", "jpeg": "jpg", "webp": "webp", "avif": "avif"}


def read(data: bytes) -> Pixels:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert found is not None
    pixels: Pixels = found.astype(np.uint8)
    return pixels


@pytest.mark.parametrize(
    ("output_format", "quality"), [("png", ""), ("jpeg", ""), ("webp", ""), ("webp", 100), ("avif", ""), ("avif", 50)]
)
def test_a_result_comes_in_the_format_that_was_asked_for(
    client: httpx.Client, photo: Pixels, hole: Pixels, output_format: str, quality: str | int
) -> None:
    fields = {**FAST, "output_format": output_format, "output_quality": quality}
    media_type = f"image/{output_format}"
    answer = submit(client, {"Accept": media_type}, **fields)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == media_type
    assert answer.headers["Content-Disposition"].endswith(f'-0.{SUFFIXES[output_format]}"')
    job = client.get(answer.headers["Location"]).json()
    image, exact = job["images"][0], output_format == "png" or quality == 100
    assert (job["output_format"], image["content_type"], image["bytes"]) == (
        *(output_format, media_type), len(answer.content)
    )  # fmt: skip
    assert ("lossy_format" in job["approximate"]) == (not exact)
    assert answer.headers["Infill-Approximate"].split(", ") == job["approximate"]
    assert job["mask"]["changed_outside_mask"] == 0 and job["timings"]["png"] > 0
    fetched = client.get(image["url"])
    assert fetched.content == answer.content and fetched.headers["Content-Type"] == media_type
    again = client.get(image["url"], headers={"If-None-Match": fetched.headers["ETag"]})
    assert again.status_code == 304
    off = np.abs(read(answer.content).astype(int) - photo)
    assert (off[hole == 0].max() == 0) == exact and off[hole == 0].mean() < 4
    assert (off[hole == 255] > 0).any()
    if output_format != "png":
        with Image.open(io.BytesIO(answer.content)) as opened:
            comment = opened.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
        assert json.loads(comment[8:])["seed"] == 1
    assert len(answer.content) < photo.size or output_format == "png"


def test_a_photo_of_16_bits_comes_back_with_16(client: httpx.Client, photo: Pixels, hole: Pixels) -> None:
    deep = photo.astype(np.uint16) * 256 + np.random.default_rng(0).integers(0, 256, photo.shape, np.uint16)
    files = multipart(cv2.imencode(".png", deep[..., ::-1])[1].tobytes(), MASK.read_bytes())
    fields = {name: str(value) for name, value in FAST.items()}
    answer = client.post("/v1/inpaint", files=files, data=fields | {"bit_depth": "keep"}, headers={"Prefer": "wait=60"})
    job = answer.json()
    assert job["status"] == "succeeded" and job["picture"]["bits"] == job["picture"]["bit_depth"] == 16
    assert job["mask"]["changed_outside_mask"] == 0 and "depth_reduced" not in job["approximate"]
    result = cv2.imdecode(np.frombuffer(client.get(job["images"][0]["url"]).content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert result is not None and result.dtype == np.uint16
    assert (result[..., ::-1][hole == 0] == deep[hole == 0]).all()
    assert (result[..., ::-1][hole == 255] != deep[hole == 255]).any()
