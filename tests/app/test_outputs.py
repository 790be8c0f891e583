"""``output_format`` at submission: what a format cannot hold is refused there, and the rest is in the job."""

from typing import Any

import httpx
import numpy as np
import pytest
from redis import Redis

from app.uploads import check_image
from jobs.queue import parameters_of
from tests.app.formats import LIMIT, PICTURES, see_through
from tests.app.pictures import photo
from tests.app.problems import assert_problem
from tests.app.settling import Settler, our_keys
from tests.app.submissions import files, submit
from tests.factories import encoded, mask_with, png
from worker.pixels.pictures import decode

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("asked", "quality"),
    [
        ({"output_format": "jpeg"}, 90),
        ({"output_format": "webp", "output_quality": "100"}, 100),
        ({"output_format": "avif", "output_quality": "1"}, 1),
        ({"output_format": "png", "output_quality": ""}, None),
        ({}, None),
    ],
)
async def test_the_format_and_its_quality_are_the_jobs(
    client: httpx.AsyncClient, settler: Settler, asked: dict[str, Any], quality: int | None
) -> None:
    job = (await submit(client, **asked)).json()
    parameters = parameters_of(settler.queue.job(job["id"]))
    assert job["output_format"] == parameters.output_format == asked.get("output_format", "png")
    assert parameters.output_quality == quality
    lossy = asked and asked["output_format"] != "png" and quality != 100
    assert ("lossy_format" in job["approximate"]) == bool(lossy)


@pytest.mark.parametrize("name", PICTURES)
def test_a_photo_has_transparency_where_its_result_has(name: str) -> None:
    assert check_image(PICTURES[name], LIMIT).alpha == (decode(PICTURES[name]).alpha is not None)


def transparent() -> dict[str, bytes]:
    return {
        "alpha": encoded(photo().convert("RGBA")),
        "grey and alpha": encoded(photo().convert("LA"), "TIFF"),
        "a WebP": encoded(see_through(), "WEBP"),
        "an AVIF": PICTURES["avif alpha"],
        "a palette": PICTURES["png palette transparent"],
        "a colour": encoded(photo(mode="L"), transparency=7),
    }


@pytest.mark.parametrize("name", transparent())
async def test_a_jpeg_of_a_photo_with_transparency_is_refused(
    client: httpx.AsyncClient, connection: Redis, name: str
) -> None:
    image = transparent()[name]
    response = await client.post("/v1/inpaint", files=files(image), data={"output_format": "jpeg"})
    problem = assert_problem(response, 422, "invalid_field")
    assert problem["detail"].startswith("output_format: the photo has transparency")
    assert "Send png, webp or avif" in problem["detail"] and not our_keys(connection)
    assert (await client.post("/v1/inpaint", files=files(image), data={"output_format": "webp"})).status_code == 202


@pytest.mark.parametrize(
    ("output_format", "length", "fits"),
    [("webp", 16_384, "png, jpeg, avif"), ("avif", 32_769, "png, jpeg"), ("jpeg", 65_501, "png")],
)
@pytest.mark.parametrize("upright", [True, False])
async def test_a_photo_that_is_longer_than_the_format_allows_is_refused(
    client: httpx.AsyncClient, connection: Redis, output_format: str, length: int, fits: str, upright: bool
) -> None:
    size = (length, 4) if upright else (4, length)
    pair = files(png(np.zeros((*size, 3), np.uint8)), png(mask_with(np.s_[1:3, 1:3], size)))
    response = await client.post("/v1/inpaint", files=pair, data={"output_format": output_format})
    problem = assert_problem(response, 422, "invalid_field")
    assert f"at most {length - 1} pixels" in problem["detail"] and f"hold it: {fits}." in problem["detail"]
    assert not our_keys(connection)


async def test_an_image_alone_is_asked_for_by_the_type_of_the_format(client: httpx.AsyncClient) -> None:
    fields = {"output_format": "avif"}
    headers = {"Prefer": "wait=0", "Accept": "image/png"}
    problem = assert_problem(await submit(client, headers, **fields), 406, "not_acceptable")
    assert "application/json or image/avif" in problem["detail"]
    response = await submit(client, {"Prefer": "wait=0", "Accept": "image/avif"}, **fields)
    assert_problem(response, 504, "still_running")
