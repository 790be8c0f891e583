"""Callers take turns, told apart by their API keys."""

import httpx
import pytest
from redis import Redis

from jobs import keys
from tests.app.conftest import files

pytestmark = pytest.mark.anyio


async def post(client: httpx.AsyncClient, key: str | None, **headers: str) -> httpx.Response:
    given = {"X-API-Key": key} if key else {}
    return await client.post("/v1/inpaint", files=files(), headers={**given, **headers})


async def test_a_single_job_waits_behind_one_of_a_caller_with_many(client: httpx.AsyncClient) -> None:
    for _ in range(5):
        await post(client, "many")
    assert (await post(client, "single")).json()["queue_position"] == 1


async def test_callers_without_a_key_are_one_caller(client: httpx.AsyncClient) -> None:
    positions = [(await post(client, None)).json()["queue_position"] for _ in range(3)]
    assert positions == [0, 1, 2]


async def test_two_callers_may_use_the_same_idempotency_key(client: httpx.AsyncClient) -> None:
    first, second = [await post(client, key, **{"Idempotency-Key": "1"}) for key in ("a", "b")]
    assert first.json()["id"] != second.json()["id"]
    again = await post(client, "a", **{"Idempotency-Key": "1"})
    assert again.json()["id"] == first.json()["id"]


async def test_an_api_key_is_not_to_be_found_in_redis(client: httpx.AsyncClient, connection: Redis) -> None:
    job_id = (await post(client, "secret-key", **{"Idempotency-Key": "k"})).json()["id"]
    caller = connection.get(keys.caller(job_id))
    assert caller and len(caller) == 32
    stored = [connection.dump(name) or b"" for name in connection.keys("*")]
    assert not any(b"secret-key" in value for value in (*stored, *connection.keys("*")))
