"""``Prefer: wait`` on a job and on its image, and when to look again at one that has not ended."""

import asyncio

import httpx
import pytest

from app.settings import ApiSettings
from jobs.schema import JobProblem
from tests.app.next_jobs import IMAGE, end_next
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import submit

pytestmark = pytest.mark.anyio

WAIT = {"Prefer": "wait=10"}


async def test_a_look_that_waits_is_answered_with_the_ended_job(redis_url: str, settler: Settler) -> None:
    async with serve(ApiSettings(redis_url=redis_url, poll_s=30)) as client:  # only a notice can be this fast
        url = (await submit(client)).headers["Location"]
        response, _ = await asyncio.gather(client.get(url, headers=WAIT), end_next(settler))
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.headers["Preference-Applied"] == "wait=10"
    assert "Retry-After" not in response.headers


async def test_a_look_whose_wait_is_over_is_answered_with_the_job_as_it_is(client: httpx.AsyncClient) -> None:
    url = (await submit(client)).headers["Location"]
    response = await client.get(url, headers={"Prefer": "wait=1"})
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert response.headers["Preference-Applied"] == "wait=1"


async def test_no_wait_on_a_job_is_longer_than_the_setting(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, max_wait_s=0)) as client:
        url = (await submit(client)).headers["Location"]
        for path in (url, f"{url}/images/0"):
            assert (await client.get(path, headers={"Prefer": "wait=99999"})).headers["Preference-Applied"] == "wait=0"


@pytest.mark.parametrize("prefer", ["wait", "wait=-1", "wait=soon", "respond-async", "return=minimal", ""])
async def test_a_look_that_does_not_ask_for_a_wait_has_none(client: httpx.AsyncClient, prefer: str) -> None:
    url = (await submit(client)).headers["Location"]
    response = await client.get(url, headers={"Prefer": prefer})
    assert response.status_code == 200 and "Preference-Applied" not in response.headers
    assert_problem(await client.get(f"{url}/images/0", headers={"Prefer": prefer}), 409, "job_not_finished")


async def test_an_image_is_waited_for(client: httpx.AsyncClient, settler: Settler) -> None:
    url = (await submit(client)).headers["Location"]
    response, _ = await asyncio.gather(client.get(f"{url}/images/0", headers=WAIT), end_next(settler))
    assert (response.status_code, response.content) == (200, IMAGE)
    assert response.headers["Preference-Applied"] == "wait=10"


async def test_an_image_that_is_not_ready_in_time_is_a_504(client: httpx.AsyncClient, settler: Settler) -> None:
    job = (await submit(client)).json()
    settler.start(job["id"])
    settler.step(job["id"], 1, eta_ms=7_200.0)
    url = f"/v1/jobs/{job['id']}"
    response = await client.get(f"{url}/images/0", headers={"Prefer": "wait=0"})
    assert_problem(response, 504, "still_running")
    assert (response.headers["Location"], response.headers["Retry-After"]) == (url, "8")


async def test_the_image_of_a_job_that_fails_meanwhile_is_its_problem(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job_id = (await submit(client)).json()["id"]
    settler.start(job_id)
    settler.fail(job_id, JobProblem(code="out_of_memory", message="It does not fit."))
    assert_problem(await client.get(f"/v1/jobs/{job_id}/images/0", headers=WAIT), 500, "out_of_memory")


@pytest.mark.parametrize(("eta_ms", "seconds"), [(None, "5"), (0.0, "1"), (7_200.0, "8"), (9e9, "60")])
async def test_a_202_names_the_time_of_the_next_look(
    client: httpx.AsyncClient, settler: Settler, eta_ms: float | None, seconds: str
) -> None:
    job_id = (await submit(client)).json()["id"]
    settler.start(job_id)
    settler.step(job_id, 1, eta_ms=eta_ms)
    response = await client.delete(f"/v1/jobs/{job_id}")
    assert (response.status_code, response.headers["Retry-After"]) == (202, seconds)


async def test_a_submission_that_does_not_wait_names_it_too(client: httpx.AsyncClient) -> None:
    response = await submit(client)
    assert (response.status_code, response.headers["Retry-After"]) == (202, "5")
