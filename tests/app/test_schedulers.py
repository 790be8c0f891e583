"""``scheduler`` and ``GET /v1/models``: what is offered and refused before and after a worker has loaded the model."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs import keys
from jobs.queue import JobQueue
from jobs.schedulers import fitting_schedulers
from jobs.store import Store
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import our_keys
from tests.app.submissions import submit

pytestmark = pytest.mark.anyio

ENTRY = """
[models.mine]
family = "sdxl"
source = "/models/mine"
num_inference_steps = 20
guidance_scale = 5.0
strength = 1.0
scheduler = "euler"
"""
FOUND = ["ddim", "euler", "dpmpp_2m"]


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    (tmp_path / "catalog.toml").write_text(ENTRY)
    return ApiSettings(redis_url=redis_url, catalog=str(tmp_path / "catalog.toml"))


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


@pytest.fixture
def store(connection: Redis, settings: ApiSettings) -> Store:
    return JobQueue(connection, settings).store


async def model(client: httpx.AsyncClient) -> dict[str, Any]:
    (found,) = (await client.get("/v1/models")).json()["models"]
    return dict(found)


async def test_the_model_that_ships_offers_what_fits_it_before_any_worker_has_loaded_it(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url)) as client:
        pocket = await model(client)
        assert set(fitting_schedulers("sd")) - set(pocket["schedulers"]) == {"heun", "dpmpp_2m_karras", "dpmpp_sde"}
        for name in ("heun", "dpmpp_2m_karras", "dpmpp_sde"):
            problem = assert_problem(await submit(client, scheduler=name), 422, "invalid_field")
            assert problem["detail"].endswith(f"Those that do: {', '.join(pocket['schedulers'])}.")
        for name in pocket["schedulers"]:
            assert (await submit(client, scheduler=name)).status_code == 202


async def test_another_model_offers_its_familys_until_a_worker_has_found_which_fit(
    client: httpx.AsyncClient, store: Store
) -> None:
    assert (await model(client))["schedulers"] == fitting_schedulers("sdxl")
    assert (await submit(client, scheduler="heun")).status_code == 202
    store.known.put_schedulers("/models/mine", FOUND)
    assert (await model(client))["schedulers"] == FOUND
    problem = assert_problem(await submit(client, scheduler="heun"), 422, "invalid_field")
    assert "scheduler: 'heun' does not fit the model" in problem["detail"]
    assert problem["detail"].endswith("Those that do: ddim, euler, dpmpp_2m.")
    assert (await submit(client, scheduler="dpmpp_2m")).status_code == 202


async def test_a_refused_scheduler_leaves_nothing_behind(
    client: httpx.AsyncClient, connection: Redis, store: Store
) -> None:
    store.known.put_schedulers("/models/mine", FOUND)
    await submit(client, scheduler="heun")
    assert our_keys(connection) == {keys.schedulers("/models/mine")}


async def test_names_that_only_another_version_knows_are_not_offered(client: httpx.AsyncClient, store: Store) -> None:
    store.known.put_schedulers("/models/mine", ["euler", "of_tomorrow"])
    assert (await model(client))["schedulers"] == ["euler"]


async def test_a_repeated_request_is_answered_though_its_scheduler_has_proved_unfit(
    client: httpx.AsyncClient, store: Store
) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await submit(client, headers, scheduler="heun")
    store.known.put_schedulers("/models/mine", FOUND)
    assert (await submit(client, headers, scheduler="heun")).json()["id"] == first.json()["id"]


async def test_a_list_in_the_catalog_holds_whatever_a_worker_has_found(settings: ApiSettings, store: Store) -> None:
    Path(str(settings.catalog)).write_text(ENTRY + 'schedulers = ["euler", "unipc"]\n')
    async with serve(settings) as client:
        assert (await model(client))["schedulers"] == ["euler", "unipc"]
        store.known.put_schedulers("/models/mine", FOUND)
        assert (await model(client))["schedulers"] == ["euler"]
        problem = assert_problem(await submit(client, scheduler="ddim"), 422, "invalid_field")
        assert problem["detail"].endswith("Those that do: euler, unipc.")
