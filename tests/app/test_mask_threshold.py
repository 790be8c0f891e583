"""``mask_threshold``: what is at least so strong is repainted wholly, and nothing else is; in every mode and layout."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.masks import decode_mask
from jobs.errors import EmptyMask
from jobs.schema import MaskMode
from tests import png_files
from tests.app.json_body import base64_of, document, post_json
from tests.app.pictures import photo
from tests.app.problems import assert_problem
from tests.app.settling import pixels
from tests.app.submissions import files
from tests.factories import encoded, png
from tests.png_files import png_of

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
OPAQUE = np.full_like(LEVELS, 255)


def read(data: bytes, mode: MaskMode, threshold: float, size: tuple[int, int] = (16, 16)) -> NDArray[np.uint8]:
    mask = decode_mask(data, mode, size, 100_000, threshold=threshold)
    assert not mask.report.soft and mask.report.snapped == 0
    assert mask.report.threshold == threshold
    return pixels(mask)


def hard(strength: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    return np.where(strength / 255 >= threshold, np.uint8(255), np.uint8(0))


WIDE = LEVELS.astype(np.uint16) * 257
FILES: dict[str, tuple[bytes, MaskMode, NDArray[np.uint8]]] = {
    "white": (png(LEVELS), "white", LEVELS),
    "black": (png(LEVELS), "black", 255 - LEVELS),
    "alpha": (png(np.dstack([LEVELS, LEVELS, LEVELS, LEVELS])), "alpha", 255 - LEVELS),
    "alpha_inverted": (png(np.dstack([LEVELS, LEVELS, LEVELS, LEVELS])), "alpha_inverted", LEVELS),
    "auto, opaque": (png(np.dstack([LEVELS] * 3 + [OPAQUE])), "auto", LEVELS),
    "auto, transparent": (png(np.dstack([LEVELS, LEVELS, LEVELS, LEVELS])), "auto", 255 - LEVELS),
    "16 bits": (png_of(WIDE, 16, png_files.GREY), "white", LEVELS),
    "floats": (encoded(Image.fromarray(LEVELS / np.float32(255)), "TIFF"), "white", LEVELS),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("threshold", [1e-9, 1 / 255, 0.01, 8 / 255, 0.5, 128 / 255, 247 / 255, 0.99, 1.0])
def test_a_pixel_is_repainted_from_the_threshold_on(name: str, threshold: float) -> None:
    data, mode, strength = FILES[name]
    np.testing.assert_array_equal(read(data, mode, threshold), hard(strength, threshold))


def test_a_lossy_file_is_cut_at_its_own_values() -> None:
    data = encoded(Image.fromarray(np.kron(LEVELS, np.ones((8, 8), np.uint8))), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        values = np.asarray(image)
    np.testing.assert_array_equal(read(data, "white", 0.3, (128, 128)), hard(values, 0.3))


def test_a_faint_mask_is_not_doubtful_where_the_threshold_says_what_counts() -> None:
    faint = (LEVELS > 99).astype(np.uint8)
    np.testing.assert_array_equal(read(png(faint), "white", 1 / 255), faint * 255)


def test_a_threshold_above_every_value_says_so() -> None:
    with pytest.raises(EmptyMask, match=r"strongest pixel has 100 of 255, which is 0\.392; mask_threshold=0\.5 leaves"):
        read(png(LEVELS // 3 + 15), "white", 0.5)
    with pytest.raises(EmptyMask, match=r"strongest pixel has 0 of 255|Paint black") as caught:
        read(png(OPAQUE), "black", 0.5)
    assert "mask_threshold" not in str(caught.value)


@pytest.mark.anyio
async def test_it_is_a_field_of_both_bodies_and_of_the_report(client: httpx.AsyncClient) -> None:
    soft = np.full((48, 64), 100, np.uint8)
    soft[:9] = 200
    sent = files(mask=png(soft))
    form = await client.post("/v1/inpaint", files=sent, data={"mask_threshold": "0.5"})
    body = document(image=base64_of(encoded(photo())), mask=base64_of(png(soft)), mask_threshold=0.5)
    for answer in (form, await post_json(client, body)):
        mask = answer.json()["mask"]
        assert (mask["threshold"], mask["bbox"], mask["soft"]) == (0.5, [0, 0, 64, 9], False)
    without = await client.post("/v1/inpaint", files=sent)
    assert without.json()["mask"]["threshold"] is None and without.json()["mask"]["soft"]
    above = await client.post("/v1/inpaint", files=sent, data={"mask_threshold": "0.9"})
    assert "mask_threshold=0.9" in assert_problem(above, 422, "empty_mask")["detail"]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "zero": ({"mask_threshold": 0}, "mask_threshold: This field must be greater than 0"),
    "levels": ({"mask_threshold": 128}, "mask_threshold: This field must be less than or equal to 1"),
    "text": ({"mask_threshold": "half"}, "mask_threshold: This field must be a number."),
    "binary too": ({"mask_threshold": 0.5, "mask_scale": "binary"}, "mask_threshold, mask_scale: with"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_threshold_is_refused(client: httpx.AsyncClient, name: str) -> None:
    fields, sentence = BAD[name]
    for answer in (
        await client.post("/v1/inpaint", files=files(), data=fields),
        await post_json(client, document(**fields)),
    ):
        assert assert_problem(answer, 422, "invalid_field")["detail"].startswith(sentence)
