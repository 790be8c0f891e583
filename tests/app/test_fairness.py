"""Callers take turns, told apart by their API keys."""

import httpx
import pytest

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
