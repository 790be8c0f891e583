"""``Idempotency-Key``: the first answer again, and never a second job."""

import asyncio

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from tests.app.pictures import box_mask, photo
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler, inputs_of, our_keys
from tests.app.submissions import files, submit
from tests.factories import encoded

pytestmark = pytest.mark.anyio

KEY = {"Idempotency-Key": "order-66"}


async def test_a_repeated_request_is_answered_with_the_first_job(client: httpx.AsyncClient, settler: Settler) -> None:
    first, second = [await submit(client, KEY, prompt="x") for _ in range(2)]
    assert second.json()["id"] == first.json()["id"]
    assert second.headers["Location"] == first.headers["Location"]
    assert ("Idempotency-Replayed" in first.headers, second.headers["Idempotency-Replayed"]) == (False, "true")
    assert settler.queue.depth() == 1


async def test_what_is_about_the_call_alone_makes_no_other_request(client: httpx.AsyncClient) -> None:
    first = await submit(client, KEY | {"Prefer": "wait=1"}, prompt="x", on_disconnect="cancel")
    again = await submit(client, KEY, prompt="x")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])


@pytest.mark.parametrize("change", ["field", "image", "mask", "mask_mode"])
async def test_the_same_key_with_another_request_is_a_conflict(client: httpx.AsyncClient, change: str) -> None:
    await submit(client, KEY, prompt="x")
    image = encoded(photo(), "JPEG") if change == "image" else None
    mask = encoded(box_mask(box=(0, 0, 8, 8))) if change == "mask" else None
    changed = {"field": {"prompt": "y"}, "mask_mode": {"mask_mode": "black"}}.get(change, {})
    response = await client.post("/v1/inpaint", files=files(image, mask), data={"prompt": "x", **changed}, headers=KEY)
    assert_problem(response, 422, "idempotency_conflict")


async def test_another_key_is_another_job(client: httpx.AsyncClient, settler: Settler) -> None:
    for key in ("a", "b"):
        await submit(client, {"Idempotency-Key": key})
    assert settler.queue.depth() == 2


async def test_eight_at_once_make_one_job(client: httpx.AsyncClient, connection: Redis, settler: Settler) -> None:
    responses = await asyncio.gather(*(submit(client, KEY) for _ in range(8)))
    ids = {response.json()["id"] for response in responses}
    assert [response.status_code for response in responses] == [202] * 8
    assert len(ids) == 1
    assert settler.queue.rq.get_job_ids() == list(ids)
    pixels = {name for name in our_keys(connection) if name.endswith((":image", ":mask"))}
    assert pixels == inputs_of(ids.pop())


async def test_a_repeated_request_is_answered_while_the_queue_is_full(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, queue_limit=1)) as client:
        first = await submit(client, KEY)
        assert_problem(await submit(client), 429, "queue_full")
        assert (await submit(client, KEY)).json()["id"] == first.json()["id"]


async def test_a_repeated_request_shows_the_job_as_it_is_now(client: httpx.AsyncClient, settler: Settler) -> None:
    job_id = (await submit(client, KEY)).json()["id"]
    settler.start(job_id)
    settler.succeed(job_id, [b"image"])
    again = await submit(client, KEY)
    assert (again.status_code, again.json()["status"]) == (202, "succeeded")
    image = await submit(client, KEY | {"Prefer": "wait=5", "Accept": "image/png"})
    assert (image.status_code, image.content) == (200, b"image")


async def test_a_refused_request_does_not_use_up_its_key(client: httpx.AsyncClient) -> None:
    assert_problem(await submit(client, KEY, strength="7"), 422, "invalid_field")
    assert (await submit(client, KEY)).status_code == 202
