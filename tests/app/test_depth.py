"""``bit_depth`` at submission: what cannot be kept in 16 bits is refused there, by name."""

from typing import Any

import httpx
import numpy as np
import pytest
from redis import Redis

from app.uploads import check_image, check_kept_depth
from jobs.errors import InvalidField
from jobs.queue import parameters_of
from tests import png_files, tiff_files
from tests.app.formats import LIMIT, PICTURES
from tests.app.peaks import avif_of
from tests.app.problems import assert_problem
from tests.app.settling import Settler, our_keys
from tests.app.submissions import files, submit
from tests.factories import mask_with, noise, png
from tests.icc_profiles import grey_profile, rgb_profile
from tests.png_files import iccp, png_of, with_chunks
from tests.tiff_files import tiff_of
from worker.pixels.pictures import decode

pytestmark = pytest.mark.anyio

DEEP = noise((24, 32, 4)).astype(np.uint16) * 257
MASK = png(mask_with(np.s_[4:9, 5:20], (24, 32)))
GREY, RGB = png_of(DEEP[..., 0], 16, png_files.GREY), png_of(DEEP[..., :3], 16, png_files.RGB)
PACKED_12 = np.array([[0xFF, 0xF0, 0x00, 0x80, 0x0F, 0xFF]], np.uint8).repeat(24, 0)
TWELVE = tiff_of(PACKED_12, tiff_files.BLACK_IS_ZERO, {256: (4,), tiff_files.BITS: (12,)})
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "12 bits": (TWELVE, "auto", "12 bits a channel"),
    "an AVIF of 10 bits": (avif_of((DEEP[..., :3] >> 6).astype(np.uint16), 10), "auto", "10 bits a channel"),
    "CMYK": (tiff_of(DEEP, tiff_files.CMYK), "auto", "CMYK"),
    "grey with a profile of colours": (with_chunks(GREY, iccp(rgb_profile(2.2))), "auto", "its colour profile"),
    "grey with its profile, in colour": (with_chunks(GREY, iccp(grey_profile(2.2))), "rgb", "its colour profile"),
}
TAKEN: dict[str, tuple[bytes, str]] = {
    "grey": (GREY, "auto"),
    "grey, in colour": (GREY, "rgb"),
    "grey with its profile": (with_chunks(GREY, iccp(grey_profile(2.2))), "auto"),
    "grey with a profile of colours, in colour": (with_chunks(GREY, iccp(rgb_profile(2.2))), "rgb"),
    "grey with cICP": (with_chunks(GREY, (b"cICP", bytes([1, 13, 0, 1])), iccp(rgb_profile(2.2))), "auto"),
    "colour": (RGB, "auto"),
    "colour with its profile": (with_chunks(RGB, iccp(rgb_profile(2.2))), "auto"),
    "colour with a profile of grey": (with_chunks(RGB, iccp(grey_profile(2.2))), "auto"),
    "a TIFF": (tiff_of(DEEP[..., :3], tiff_files.RGB), "auto"),
    "8 bits": (png(noise((24, 32, 3))), "auto"),
}


async def sent(client: httpx.AsyncClient, image: bytes, colour: str = "auto", **fields: Any) -> httpx.Response:
    asked = {"bit_depth": "keep", "output_color": colour, **fields}
    mask = png(mask_with(np.s_[2:4, 1:3], (24, 4))) if image is TWELVE else MASK
    return await client.post("/v1/inpaint", files=files(image, mask), data=asked)


@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_kept_is_refused_by_name(client: httpx.AsyncClient, connection: Redis, name: str) -> None:
    image, colour, why = REFUSED[name]
    problem = assert_problem(await sent(client, image, colour), 422, "invalid_field")
    assert problem["detail"].startswith("bit_depth: keep takes grey and RGB photos (PNG, TIFF) of 16 bits a channel")
    assert why in problem["detail"] and not our_keys(connection)
    assert (await sent(client, image, colour, bit_depth="8")).status_code == 202


@pytest.mark.parametrize("name", TAKEN)
async def test_what_can_be_kept_is_taken_and_the_worker_agrees(
    client: httpx.AsyncClient, settler: Settler, name: str
) -> None:
    image, colour = TAKEN[name]
    response = await sent(client, image, colour)
    assert response.status_code == 202, response.text
    assert parameters_of(settler.queue.job(response.json()["id"])).bit_depth == "keep"
    kept = decode(image, "rgb" if colour == "rgb" else "auto", bit_depth="keep")
    assert (kept.wide is not None) == (name != "8 bits")


@pytest.mark.parametrize("output_format", ["jpeg", "webp", "avif"])
async def test_formats_without_16_bits_are_refused(
    client: httpx.AsyncClient, connection: Redis, output_format: str
) -> None:
    response = await submit(client, bit_depth="keep", output_format=output_format)
    problem = assert_problem(response, 422, "invalid_field")
    assert problem["detail"].startswith("bit_depth, output_format: ") and not our_keys(connection)


async def test_other_depths_are_no_depths(client: httpx.AsyncClient) -> None:
    for depth in ("16", "8.0", "10", "Keep"):
        problem = assert_problem(await submit(client, bit_depth=depth), 422, "invalid_field")
        assert "bit_depth" in problem["detail"]


@pytest.mark.parametrize("name", PICTURES)
def test_the_api_refuses_what_the_worker_could_not_keep(name: str) -> None:
    photo = check_image(PICTURES[name], LIMIT)
    try:
        check_kept_depth(photo, "auto")
    except InvalidField:
        assert photo.bits > 8
    else:
        found = decode(PICTURES[name], bit_depth="keep")
        assert (found.wide is not None) == (photo.bits == 16 == found.report.bits)


async def test_an_edit_of_another_size_keeps_no_16_bits(client: httpx.AsyncClient, connection: Redis) -> None:
    image = png(noise((64, 64, 3)))
    mask = np.dstack([noise((64, 64, 3)), np.where(np.arange(64)[:, None] < 20, 0, 255).repeat(64, 1).astype(np.uint8)])
    sent_files = {"image": ("a.png", image), "mask": ("m.png", png(mask))}
    fields = {"prompt": "a", "bit_depth": "keep", "size": "32x32"}
    response = await client.post("/v1/images/edits", files=sent_files, data=fields)
    assert response.status_code in {400, 422}
    assert "bit_depth, size" in response.text and not our_keys(connection)


def test_modes_of_the_report_and_of_the_check_agree() -> None:
    for data in (GREY, RGB, png(noise((4, 4))), png(noise((4, 4, 3)))):
        assert check_image(data, LIMIT).space == decode(data).report.mode
