"""What the web UI shares among all users is each caller's own here: the chosen model, progress, interrupting."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs.api_keys import ApiKeys
from tests.app.pictures import box_mask, photo
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.factories import encoded

pytestmark = pytest.mark.anyio

TWO_MODELS = """
[models.first]
family = "sd"
source = "/models/first"
[models.second]
family = "sd"
source = "/models/second"
[aliases]
"photoreal*" = "second"
"""
BODY = {
    "init_images": [base64.b64encode(encoded(photo())).decode()],
    "mask": base64.b64encode(encoded(box_mask())).decode(),
}


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(TWO_MODELS)
    return ApiSettings(redis_url=redis_url, catalog=str(catalog), auth="on", max_wait_s=10)


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


def basic(connection: Redis, tenant: str) -> dict[str, str]:
    """A key as the web UI's clients send it."""
    key = ApiKeys(connection).create(tenant)[0]
    return {"Authorization": "Basic " + base64.b64encode(f"user:{key}".encode()).decode()}


async def test_without_a_key_nothing_is_answered_in_the_web_uis_shape(client: httpx.AsyncClient) -> None:
    for method, path in (("GET", "options"), ("GET", "progress"), ("POST", "img2img"), ("POST", "interrupt/")):
        answer = await client.request(method, f"/sdapi/v1/{path}")
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


async def test_a_chosen_model_is_the_callers_own(client: httpx.AsyncClient, connection: Redis) -> None:
    mine, yours = basic(connection, "acme"), basic(connection, "rival")

    async def model(key: dict[str, str]) -> str:
        return str((await client.get("/sdapi/v1/options", headers=key)).json()["sd_model_checkpoint"])

    chosen = await client.post("/sdapi/v1/options/", json={"sd_model_checkpoint": "second [1a2b]"}, headers=mine)
    assert (chosen.status_code, chosen.content) == (200, b"null")
    assert (await model(mine), await model(yours)) == ("second", "first")
    await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "first"}, headers=mine)
    for alias in ("photoreal_v5", "photoreal_v5.safetensors [1a2b]"):
        await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": alias}, headers=mine)
        assert await model(mine) == "second"
    wrong = await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "nobody"}, headers=mine)
    assert wrong.status_code == 404 and await model(mine) == "second"
    (kept,) = connection.scan_iter("infill:a1111:*")
    assert connection.ttl(kept) > 0


async def test_without_keys_a_chosen_model_is_an_addresss_own(settings: ApiSettings, connection: Redis) -> None:
    """Also with Basic credentials that are empty, which some clients send always."""
    open_to_all = settings.model_copy(update={"auth": "off", "trusted_proxies": "127.0.0.1"})
    empty = {"Authorization": "Basic " + base64.b64encode(b":").decode()}
    async with serve(open_to_all) as client:
        mine, yours = (empty | {"X-Forwarded-For": address} for address in ("192.0.2.1", "192.0.2.2"))
        await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "second"}, headers=mine)
        found = [(await client.get("/sdapi/v1/options", headers=headers)).json() for headers in (mine, yours)]
    assert [options["sd_model_checkpoint"] for options in found] == ["second", "first"]
    (kept,) = connection.scan_iter("infill:a1111:*")
    assert b"192" not in kept


async def test_progress_and_interrupt_are_about_the_callers_latest_job(
    client: httpx.AsyncClient, connection: Redis, settler: Settler
) -> None:
    mine, yours = basic(connection, "acme"), basic(connection, "rival")
    await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": "second"}, headers=mine)
    answers: dict[str, Any] = {}

    async def submit() -> None:
        answers["mine"] = await client.post("/sdapi/v1/img2img", json=BODY, headers=mine)

    async def progress(key: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = (await client.get("/sdapi/v1/progress", headers=key)).json()
        return found

    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        with anyio.fail_after(10):
            while not (ids := settler.queue.rq.get_job_ids()) or not (await progress(mine))["state"]["job_count"]:
                await anyio.sleep(0.02)
        (job_id,) = map(str, ids)
        assert settler.queue.job(job_id).kwargs["model"] == "second"
        assert (await progress(mine))["textinfo"] == "In queue: 0"
        settler.start(job_id)
        settler.step(job_id, 10, steps=20)
        seen = await progress(mine)
        assert (seen["progress"], seen["state"]["sampling_step"], seen["textinfo"]) == (0.5, 10, None)
        assert (await progress(yours))["state"]["job_count"] == 0
        await client.post("/sdapi/v1/interrupt", headers=yours)
        assert not settler.queue.store.canceled([job_id])
        assert (await client.post("/sdapi/v1/skip", headers=mine)).json() == {}
        assert settler.queue.store.canceled([job_id]) == {job_id}
        settler.stop(job_id)
    assert (answers["mine"].status_code, answers["mine"].json()["code"]) == (409, "job_canceled")
    assert (await progress(mine))["progress"] == 0.0
