"""Health, readiness, workers, models, metrics and the page: what operators and newcomers look at."""

import re

import httpx
import pytest
from redis import Redis

from app.routes.page import FOLDER
from app.settings import ApiSettings
from tests.app.metrics import WORKER, metrics_of, value
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import submit
from tests.factories import worker_speed

pytestmark = pytest.mark.anyio


async def test_health_asks_nothing_of_redis() -> None:
    async with serve(ApiSettings(redis_url="redis://127.0.0.1:1/0")) as client:
        response = await client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_needs_a_living_worker_and_room_in_the_queue(redis_url: str, settler: Settler) -> None:
    async with serve(ApiSettings(redis_url=redis_url, queue_limit=1)) as client:
        assert_problem(await client.get("/readyz"), 503, "no_worker")
        settler.queue.store.announce(WORKER, lease_s=10)
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "workers": 1, "queue_depth": 0})
        await submit(client)
        response = await client.get("/readyz")
        assert_problem(response, 503, "queue_full")
        assert "Retry-After" in response.headers


async def test_jobs_are_taken_while_no_worker_lives(client: httpx.AsyncClient) -> None:
    assert (await submit(client)).status_code == 202


async def test_a_worker_is_listed_until_its_lease_lapses(
    client: httpx.AsyncClient, settler: Settler, connection: Redis
) -> None:
    settler.queue.store.announce(WORKER.model_copy(update={"jobs": ["a" * 32, "b" * 32]}), lease_s=10)
    listed = (await client.get("/v1/workers")).json()
    shown = WORKER.model_dump(mode="json") | {"jobs": 2, "clock_ahead_s": None}
    assert listed == {"workers": [shown]}, "how many, not which"
    connection.delete("infill:worker:w1")
    assert (await client.get("/v1/workers")).json() == {"workers": []}
    assert_problem(await client.get("/readyz"), 503, "no_worker")


async def test_models_come_with_defaults_and_where_they_are_loaded(client: httpx.AsyncClient, settler: Settler) -> None:
    settler.queue.store.announce(WORKER, lease_s=10)
    (pocket,) = (await client.get("/v1/models")).json()["models"]
    assert (pocket["name"], pocket["default"], pocket["workers"]) == ("pocket", True, ["w1"])
    assert pocket["loaded_by"] == ["w1"]
    assert (pocket["num_inference_steps"], pocket["scheduler"]) == (8, "ddim")
    assert (pocket["presets"]["fast"]["num_inference_steps"], pocket["max_n"]) == (2, 8)
    assert "source" not in pocket


async def test_a_model_that_a_worker_serves_is_not_yet_one_that_it_has_loaded(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    settler.queue.store.announce(WORKER.model_copy(update={"loaded": []}), lease_s=10)
    (pocket,) = (await client.get("/v1/models")).json()["models"]
    assert (pocket["workers"], pocket["loaded_by"]) == (["w1"], [])


async def test_a_model_that_a_worker_loads_for_a_job_names_that_worker(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    store = settler.queue.store
    speed = worker_speed(loading=["pocket"])
    store.announce(WORKER.model_copy(update={"loaded": []}), lease_s=10, speed=speed)
    store.announce(WORKER.model_copy(update={"name": "w2"}), lease_s=10, speed=worker_speed())
    store.announce(WORKER.model_copy(update={"name": "of an older version"}), lease_s=10)
    (pocket,) = (await client.get("/v1/models")).json()["models"]
    assert (pocket["loaded_by"], pocket["loading_by"]) == (["of an older version", "w2"], ["w1"])


async def test_schedulers_have_descriptions(client: httpx.AsyncClient) -> None:
    schedulers = (await client.get("/v1/schedulers")).json()["schedulers"]
    assert {"ddim", "euler", "dpmpp_2m"} <= {scheduler["name"] for scheduler in schedulers}
    assert all(scheduler["description"] for scheduler in schedulers)


async def test_schedulers_name_the_families_that_they_fit(client: httpx.AsyncClient) -> None:
    schedulers = (await client.get("/v1/schedulers")).json()["schedulers"]
    families = {scheduler["name"]: scheduler["families"] for scheduler in schedulers}
    assert families["ddim"] == ["sd", "sdxl"]
    assert families["flow_euler"] == ["sd3", "flux", "qwen-image"]


async def test_metrics_count_requests_by_route_template(client: httpx.AsyncClient) -> None:
    for path in ("/v1/jobs/a", "/v1/jobs/b", "/nothing/x", "/nothing/y"):
        await client.get(path)
    metrics = await metrics_of(client)
    assert value(metrics, "infill_http_requests_total", route="/v1/jobs/{job_id}", method="GET", status="404") == 2
    assert value(metrics, "infill_http_requests_total", route="unmatched", method="any", status="404") == 2
    assert value(metrics, "infill_http_request_seconds_count", route="/v1/jobs/{job_id}", method="GET") == 2


async def test_metrics_count_what_became_of_submissions(client: httpx.AsyncClient, settler: Settler) -> None:
    key = {"Idempotency-Key": "k"}
    job_id = (await submit(client, key)).json()["id"]
    await submit(client, key)
    await submit(client, strength="3")
    await submit(client, colour="red")
    await client.delete(f"/v1/jobs/{job_id}")
    await client.delete("/v1/jobs/nothing")
    await submit(client)
    settler.queue.store.announce(WORKER, lease_s=10)
    metrics = await metrics_of(client)
    assert value(metrics, "infill_jobs_submitted_total", model="pocket") == 2
    assert value(metrics, "infill_jobs_replayed_total") == 1
    assert value(metrics, "infill_jobs_refused_total", code="invalid_field") == 1
    assert value(metrics, "infill_jobs_refused_total", code="unknown_field") == 1
    assert value(metrics, "infill_jobs_cancel_requests_total", code="ok") == 1
    assert value(metrics, "infill_jobs_cancel_requests_total", code="job_not_found") == 1
    assert (value(metrics, "infill_queue_depth"), value(metrics, "infill_workers")) == (1, 1)
    assert value(metrics, "infill_seats") == 4


async def test_two_apps_in_one_process_count_apart(settings: ApiSettings) -> None:
    async with serve(settings) as one, serve(settings) as two:
        await submit(one)
        assert ("infill_jobs_submitted_total", frozenset({("model", "pocket")})) not in await metrics_of(two)


async def test_the_page_needs_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    sources = re.findall(r"(?:src|href)=\"([^\"#]+)\"", response.text)
    assert {"page/main.js", "page/style.css"} <= set(sources)
    for source in sources:
        assert not re.match(r"\w+:(?!,)|/", source) or source.startswith("data:")
    files = {path.name: path.read_text() for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js")}
    for name, text in files.items():
        assert not re.findall(r"@import|\burl\((?!#|\)|page/)|(?:src|href)=\"//", text), name
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)[a-z]", text), name


async def test_the_openapi_pages_need_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    for address in ("/docs", "/redoc"):
        page = (await client.get(address)).text
        sources = re.findall(r"(?:src|href)=[\"']([^\"']+)[\"']", page)
        assert sources
        for source in sources:
            assert source.startswith("/static-offline-docs/") or source == "/redoc/script.js"
            assert (await client.get(source)).status_code == 200


async def test_the_openapi_page_has_examples_of_requests_jobs_and_problems(client: httpx.AsyncClient) -> None:
    description = (await client.get("/openapi.json")).json()
    paths = description["paths"]
    responses = paths["/v1/inpaint"]["post"]["responses"]
    assert responses["202"]["content"]["application/json"]["examples"] == {
        "queued": {"$ref": "#/components/examples/queued"}
    }
    assert description["components"]["examples"]["queued"]["value"]["queue_position"] == 3
    assert responses["200"]["content"]["image/png"]
    assert "invalid_mask" in responses["422"]["content"]["application/problem+json"]["examples"]
    assert paths["/v1/inpaint"]["post"]["requestBody"]["content"]["multipart/form-data"]
    assert (await client.get("/docs")).status_code == 200
