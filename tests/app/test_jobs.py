"""``/v1/jobs/{id}``: what a job looks like in each state, its images, and canceling it."""

from typing import Any

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs import keys
from jobs.schema import JobProblem
from tests.app.problems import assert_problem
from tests.app.settling import TIMINGS, Settler
from tests.app.submissions import submit

pytestmark = pytest.mark.anyio

IMAGE = b"\x89PNG image"


async def submitted(client: httpx.AsyncClient, **fields: Any) -> str:
    job_id: str = (await submit(client, **fields)).json()["id"]
    return job_id


async def look(client: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    response = await client.get(f"/v1/jobs/{job_id}")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


async def test_queue_positions_count_the_jobs_ahead(client: httpx.AsyncClient) -> None:
    ids = [await submitted(client) for _ in range(3)]
    assert [(await look(client, job_id))["queue_position"] for job_id in ids] == [0, 1, 2]


async def test_a_running_job_shows_its_progress(client: httpx.AsyncClient, settler: Settler) -> None:
    job_id = await submitted(client)
    settler.start(job_id)
    settler.step(job_id, 7, steps=20, eta_ms=650.5)
    job = await look(client, job_id)
    assert (job["status"], job["attempt"], job["queue_position"]) == ("running", 1, None)
    assert job["progress"] == {"step": 7, "steps": 20, "eta_ms": 650.5, "preview_step": None}
    assert job["started_at"] is not None and job["ended_at"] is None


async def test_a_job_whose_worker_loads_its_model_is_loading_and_has_no_eta(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job_id = await submitted(client)
    settler.start(job_id)
    settler.step(job_id, 0, steps=20, eta_ms=650.5, loading=0)
    settler.step(job_id, 0, loading=1, eta_ms=None)
    job = await look(client, job_id)
    assert (job["status"], job["progress"]) == (
        "loading",
        {"step": 0, "steps": 20, "eta_ms": None, "preview_step": None},
    )
    assert job["queue_position"] is None and job["ended_at"] is None
    assert_problem(await client.get(f"/v1/jobs/{job_id}/images/0"), 409, "job_not_finished")
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 202
    settler.step(job_id, 1, loading=0, eta_ms=500)
    job = await look(client, job_id)
    assert (job["status"], job["progress"]) == (
        "running",
        {"step": 1, "steps": 20, "eta_ms": 500, "preview_step": None},
    )


async def test_a_job_that_is_queued_again_or_has_ended_is_not_loading(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job_id = await submitted(client)
    settler.step(job_id, 0, loading=1)  # of a worker that handed it back
    assert (await look(client, job_id))["status"] == "queued"
    settler.start(job_id)
    settler.step(job_id, 0, loading=1)
    settler.fail(job_id, JobProblem(code="model_unavailable", message="It cannot be loaded."))
    assert (await look(client, job_id))["status"] == "failed"


async def test_a_succeeded_job_shows_images_timings_and_the_effective_mask(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job_id = await submitted(client, n="2", seed="5")
    settler.start(job_id)
    settler.succeed(job_id, [IMAGE, IMAGE + b"1"])
    job = await look(client, job_id)
    assert job["status"] == "succeeded"
    assert job["seeds"] == [5, 6]
    assert job["timings"] == TIMINGS.model_dump()
    assert job["mask"]["changed_outside_mask"] == 0
    assert [image["url"] for image in job["images"]] == [f"/v1/jobs/{job_id}/images/{k}" for k in range(2)]
    assert job["progress"] == {"step": 20, "steps": 20, "eta_ms": 0, "preview_step": None}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("deadline_exceeded", 504),
        ("out_of_memory", 500),
        ("undecodable_job", 500),
        ("model_unavailable", 502),
        ("internal_error", 500),
        ("a_code_of_a_newer_worker", 500),
    ],
)
async def test_a_failed_job_says_why_and_its_image_is_that_problem(
    client: httpx.AsyncClient, settler: Settler, code: str, status: int
) -> None:
    job_id = await submitted(client)
    settler.start(job_id)
    settler.fail(job_id, JobProblem(code=code, message="It did not work."))
    job = await look(client, job_id)
    assert (job["status"], job["error"]) == ("failed", {"code": code, "message": "It did not work."})
    response = await client.get(f"/v1/jobs/{job_id}/images/0")
    assert assert_problem(response, status, code)["detail"] == "It did not work."


async def test_a_job_whose_workers_died_has_crashed(client: httpx.AsyncClient, settler: Settler) -> None:
    job_id = await submitted(client)
    settler.start(job_id)
    settler.crash(job_id)
    assert (await look(client, job_id))["error"]["code"] == "crashed"
    assert_problem(await client.get(f"/v1/jobs/{job_id}/images/0"), 502, "crashed")


async def test_unknown_jobs_are_not_found(client: httpx.AsyncClient) -> None:
    for path in ("", "/images/0", "/events"):
        for job_id in ("0" * 32, "a:b", "x" * 5000):
            assert_problem(await client.get(f"/v1/jobs/{job_id}{path}"), 404, "job_not_found")
    assert_problem(await client.delete("/v1/jobs/nothing"), 404, "job_not_found")


async def test_an_image_comes_with_its_facts_in_headers(client: httpx.AsyncClient, settler: Settler) -> None:
    job_id = await submitted(client, seed="5", n="2")
    settler.start(job_id)
    settler.succeed(job_id, [b"first", IMAGE])
    response = await client.get(f"/v1/jobs/{job_id}/images/1")
    assert (response.status_code, response.content) == (200, IMAGE)
    headers = response.headers
    assert headers["Content-Type"] == "image/png"
    assert headers["Cache-Control"] == "private, max-age=3600, immutable"
    assert headers["Content-Disposition"].endswith('-1.png"')
    assert (headers["Infill-Job"], headers["Infill-Seed"]) == (job_id, "6")
    assert headers["Infill-Changed-Outside-Mask"] == "0"
    assert headers["Server-Timing"].startswith("queue;dur=3.00, fetch;dur=1.00, ")
    assert headers["Server-Timing"].endswith("total;dur=1015.00")


async def test_what_a_job_gave_up_for_speed_is_told_from_the_beginning_to_the_end(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    exact, fast = await submitted(client), await submitted(client, preset="fast", cache_interval="2")
    assert [(await look(client, job_id))["approximate"] for job_id in (exact, fast)] == [
        [],
        ["fewer_steps", "cached_features"],
    ]
    for job_id, header in ((exact, None), (fast, "fewer_steps, cached_features")):
        settler.start(job_id)
        settler.succeed(job_id, [IMAGE])
        image = await client.get(f"/v1/jobs/{job_id}/images/0")
        assert image.headers.get("Infill-Approximate") == header


async def test_an_image_that_has_not_changed_is_a_304(client: httpx.AsyncClient, settler: Settler) -> None:
    job_id = await submitted(client)
    settler.start(job_id)
    settler.succeed(job_id, [IMAGE])
    url = f"/v1/jobs/{job_id}/images/0"
    etag = (await client.get(url)).headers["ETag"]
    again = await client.get(url, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.get(url, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_images_that_are_not_there_are_problems(
    client: httpx.AsyncClient, settler: Settler, connection: Redis
) -> None:
    job_id = await submitted(client)
    url = f"/v1/jobs/{job_id}/images"
    assert_problem(await client.get(f"{url}/0"), 409, "job_not_finished")
    settler.start(job_id)
    assert_problem(await client.get(f"{url}/0"), 409, "job_not_finished")
    settler.succeed(job_id, [IMAGE])
    assert_problem(await client.get(f"{url}/1"), 404, "image_not_found")
    assert_problem(await client.get(f"{url}/-1"), 404, "image_not_found")
    assert_problem(await client.get(f"{url}/first"), 422, "invalid_field")
    connection.delete(keys.result(job_id, 0))
    assert_problem(await client.get(f"{url}/0"), 410, "result_expired")


async def test_a_result_expires_on_time(redis_url: str, connection: Redis) -> None:
    settings = ApiSettings(redis_url=redis_url, result_ttl_s=7)
    settler = Settler.connect(connection, settings)
    settler.queue.store.put_results("x", [IMAGE])
    assert 5 <= connection.ttl(keys.result("x", 0)) <= 7


async def test_a_queued_job_is_canceled_at_once_and_forgotten(
    client: httpx.AsyncClient, settler: Settler, connection: Redis
) -> None:
    job_id = await submitted(client)
    response = await client.delete(f"/v1/jobs/{job_id}")
    assert (response.status_code, response.json()["status"]) == (200, "canceled")
    assert settler.queue.depth() == 0
    assert not connection.exists(keys.picture(job_id, "image"), keys.picture(job_id, "mask"))
    assert 0 < connection.ttl(f"rq:job:{job_id}") <= 86_400
    assert_problem(await client.get(f"/v1/jobs/{job_id}/images/0"), 409, "job_canceled")


async def test_canceling_twice_is_fine(client: httpx.AsyncClient) -> None:
    job_id = await submitted(client)
    for _ in range(2):
        response = await client.delete(f"/v1/jobs/{job_id}")
        assert (response.status_code, response.json()["status"]) == (200, "canceled")


async def test_a_running_job_is_flagged_and_canceled_at_its_next_step(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job_id = await submitted(client)
    settler.start(job_id)
    response = await client.delete(f"/v1/jobs/{job_id}")
    assert (response.status_code, response.json()["status"]) == (202, "running")
    settler.stop(job_id)
    assert (await look(client, job_id))["status"] == "canceled"


async def test_a_finished_job_cannot_be_canceled(client: httpx.AsyncClient, settler: Settler) -> None:
    job_id = await submitted(client)
    settler.start(job_id)
    settler.succeed(job_id, [IMAGE])
    problem = assert_problem(await client.delete(f"/v1/jobs/{job_id}"), 409, "job_already_finished")
    assert problem["detail"] == "The job has succeeded; there is nothing to cancel."


async def test_an_undecodable_record_is_said_to_be_one(client: httpx.AsyncClient, connection: Redis) -> None:
    job_id = await submitted(client)
    connection.hset(f"rq:job:{job_id}", "data", b"\x80garbage")
    assert_problem(await client.get(f"/v1/jobs/{job_id}"), 500, "undecodable_job")
