"""Held calls: ``Prefer: wait``, ``Accept: image/png``, and the event stream."""

import asyncio
import json
import time
from typing import Any, cast

import anyio
import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs.schema import JobProblem
from tests.app.next_jobs import IMAGE, end_next, next_job
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files, submit

pytestmark = pytest.mark.anyio

PNG_PLEASE = {"Prefer": "wait=10", "Accept": "image/png"}


async def test_a_call_that_waits_is_answered_200_as_soon_as_the_job_has_ended(redis_url: str, settler: Settler) -> None:
    async with serve(ApiSettings(redis_url=redis_url, poll_s=30)) as client:  # only notices can be this fast
        await anyio.sleep(0.3)
        response, ended_at = await asyncio.gather(submit(client, {"Prefer": "wait=10"}), end_next(settler))
    assert time.monotonic() - ended_at < 1
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.headers["Preference-Applied"] == "wait=10"
    assert response.headers["Location"] == f"/v1/jobs/{response.json()['id']}"
    assert "total;dur=1015.00" in response.headers["Server-Timing"]


async def test_a_lost_notice_costs_one_poll(redis_url: str, settler: Settler) -> None:
    async with serve(ApiSettings(redis_url=redis_url, poll_s=0.1)) as client:

        async def end_silently() -> None:
            job_id = await next_job(settler)
            settler.start(job_id)
            settler.succeed(job_id, [IMAGE], notify=False)

        response, _ = await asyncio.gather(submit(client, {"Prefer": "wait=10"}), end_silently())
    assert response.status_code == 200


async def test_a_wait_that_runs_out_is_a_202(client: httpx.AsyncClient) -> None:
    began = time.monotonic()
    response = await submit(client, {"Prefer": "wait=1"})
    assert 0.9 < time.monotonic() - began < 2.5
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert response.headers["Preference-Applied"] == "wait=1"
    assert 1 <= int(response.headers["Retry-After"]) <= 60


async def test_no_wait_is_longer_than_the_setting(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, max_wait_s=0)) as client:
        response = await submit(client, {"Prefer": "wait=100"})
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "wait=0")


async def test_with_accept_png_the_answer_is_the_image(client: httpx.AsyncClient, settler: Settler) -> None:
    response, _ = await asyncio.gather(submit(client, PNG_PLEASE, seed="9"), end_next(settler))
    assert (response.status_code, response.content) == (200, IMAGE)
    headers = response.headers
    assert headers["Content-Type"] == "image/png"
    assert headers["Infill-Seed"] == "9"
    assert headers["Infill-Changed-Outside-Mask"] == "0"
    assert headers["Location"] == f"/v1/jobs/{headers['Infill-Job']}"
    assert headers["Content-Location"] == f"/v1/jobs/{headers['Infill-Job']}/images/0"
    assert "denoise;dur=900.00" in headers["Server-Timing"]


@pytest.mark.parametrize("accept", ["image/png", "image/*", "image/png, text/html, application/json;q=0"])
async def test_where_only_an_image_is_taken_and_none_is_ready_in_time_the_answer_is_a_504(
    client: httpx.AsyncClient, settler: Settler, accept: str
) -> None:
    response = await submit(client, {"Prefer": "wait=0", "Accept": accept})
    problem = assert_problem(response, 504, "still_running")
    job_id = await next_job(settler)
    assert response.headers["Location"] == f"/v1/jobs/{job_id}"
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert f"/v1/jobs/{job_id}/images/0" in problem["detail"]

    settler.start(job_id)  # it goes on
    settler.succeed(job_id, [IMAGE])
    assert (await client.get(f"/v1/jobs/{job_id}/images/0")).content == IMAGE


async def test_a_running_job_is_no_more_ready_than_one_that_waits(client: httpx.AsyncClient, settler: Settler) -> None:
    async def start_next() -> None:
        job_id = await next_job(settler)
        settler.start(job_id)
        settler.step(job_id, 1, eta_ms=7_200.0)

    response, _ = await asyncio.gather(submit(client, {"Prefer": "wait=1", "Accept": "image/png"}), start_next())
    assert "The job is running" in assert_problem(response, 504, "still_running")["detail"]
    assert response.headers["Retry-After"] == "8"


async def test_an_accept_header_in_two_lines_is_one(client: httpx.AsyncClient) -> None:
    lines = [("Accept", "image/png"), ("Accept", "application/json;q=0.1"), ("Prefer", "wait=0")]
    assert (await client.post("/v1/inpaint", files=files(), headers=lines)).status_code == 202


@pytest.mark.parametrize("accept", ["image/png, application/json;q=0.1", "image/png, */*", "*/*", "application/json"])
async def test_where_json_is_taken_too_the_answer_is_the_job(client: httpx.AsyncClient, accept: str) -> None:
    response = await submit(client, {"Prefer": "wait=0", "Accept": accept})
    assert (response.status_code, response.json()["status"]) == (202, "queued")


async def test_a_call_that_takes_only_an_image_waits_for_it_without_being_told_to(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    response, _ = await asyncio.gather(submit(client, {"Accept": "image/png"}), end_next(settler))
    assert (response.status_code, response.content) == (200, IMAGE)
    assert "Preference-Applied" not in response.headers


async def test_a_call_that_takes_only_an_image_may_take_its_job_along(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    response, _ = await asyncio.gather(
        submit(client, {"Accept": "image/png"}, on_disconnect="cancel"), end_next(settler)
    )
    assert response.status_code == 200


async def test_a_wait_without_a_length_is_the_longest_there_is(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, max_wait_s=1)) as client:
        assert_problem(await submit(client, {"Accept": "image/png"}), 504, "still_running")


async def test_with_accept_png_a_failure_is_its_problem(client: httpx.AsyncClient, settler: Settler) -> None:
    async def fail_next() -> None:
        job_id = await next_job(settler)
        settler.start(job_id)
        settler.fail(job_id, JobProblem(code="out_of_memory", message="It does not fit."))

    response, _ = await asyncio.gather(submit(client, PNG_PLEASE), fail_next())
    problem = assert_problem(response, 500, "out_of_memory")
    assert problem["detail"] == "It does not fit."


async def test_with_accept_json_a_failure_is_the_job(client: httpx.AsyncClient, settler: Settler) -> None:
    async def fail_next() -> None:
        job_id = await next_job(settler)
        settler.start(job_id)
        settler.fail(job_id, JobProblem(code="out_of_memory", message="It does not fit."))

    response, _ = await asyncio.gather(submit(client, {"Prefer": "wait=10"}), fail_next())
    assert (response.status_code, response.json()["error"]["code"]) == (200, "out_of_memory")


async def test_a_job_canceled_while_a_call_waits_for_its_image_is_a_409(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    async def cancel_next() -> None:
        await client.delete(f"/v1/jobs/{await next_job(settler)}")

    response, _ = await asyncio.gather(submit(client, PNG_PLEASE), cancel_next())
    assert_problem(response, 409, "job_canceled")


async def events_of(client: httpx.AsyncClient, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    """All events of a job's stream, which must end by itself."""
    response = await client.get(f"/v1/jobs/{job_id}/events")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            events.append((fields["event"], json.loads(fields["data"])))
    return events


async def test_the_event_stream_tells_every_change_and_ends_with_the_job(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job_id = (await submit(client)).json()["id"]

    async def run() -> None:
        await anyio.sleep(0.3)
        settler.start(job_id)
        for step in (1, 2):
            await anyio.sleep(0.3)
            settler.step(job_id, step)
        await anyio.sleep(0.3)
        settler.succeed(job_id, [IMAGE])

    events, _ = await asyncio.gather(events_of(client, job_id), run())
    assert [kind for kind, _ in events] == ["progress"] * 4 + ["end"]
    assert [job["status"] for _, job in events] == ["queued", "running", "running", "running", "succeeded"]
    assert [job["progress"]["step"] for _, job in events] == [0, 0, 1, 2, 20]
    last = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert events[-1][1] == last


async def test_the_event_stream_of_an_ended_job_is_one_event(client: httpx.AsyncClient) -> None:
    job_id = (await submit(client)).json()["id"]
    await client.delete(f"/v1/jobs/{job_id}")
    events = await events_of(client, job_id)
    assert [(kind, job["status"]) for kind, job in events] == [("end", "canceled")]


async def test_a_job_is_looked_at_once_a_change_however_many_follow_it(
    redis_url: str, settler: Settler, connection: Redis
) -> None:
    streams, steps = 60, 8
    async with serve(ApiSettings(redis_url=redis_url, poll_s=30)) as client:
        job_id = (await submit(client)).json()["id"]
        settler.start(job_id)
        await anyio.sleep(0.3)
        feeds = cast("Any", client._transport).app.state.backend.feeds

        async def follow() -> list[str]:
            lines = (await client.get(f"/v1/jobs/{job_id}/events")).text.splitlines()
            return [line.removeprefix("event:").strip() for line in lines if line.startswith("event:")]

        async def run() -> None:
            with anyio.fail_after(20):
                while sum(feed.followers for feed in feeds._feeds.values()) < streams:
                    await anyio.sleep(0.01)
            connection.config_resetstat()
            for step in range(1, steps + 1):
                settler.step(job_id, step)
                await anyio.sleep(0.05)
            settler.succeed(job_id, [IMAGE])

        followed, _ = await asyncio.gather(asyncio.gather(*(follow() for _ in range(streams))), run())
        looks = connection.info("commandstats")["cmdstat_hgetall"]["calls"]
    assert all(events[-1] == "end" and set(events[:-1]) == {"progress"} for events in followed)
    assert all(len(events) > steps // 2 for events in followed)
    assert looks < 8 * (steps + 1)  # 60 times as many if each stream looked for itself


async def test_a_stream_ends_after_its_longest_time(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url, max_stream_s=0.5, poll_s=0.1)) as client:
        job_id = (await submit(client)).json()["id"]
        with anyio.fail_after(5):
            text = (await client.get(f"/v1/jobs/{job_id}/events")).text
    assert "event: progress" in text and "event: end" not in text


async def test_an_error_of_one_look_reaches_all_who_follow_and_none_after(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url)) as client:
        responses = await asyncio.gather(*(client.get("/v1/jobs/nothing/events") for _ in range(3)))
        assert [response.status_code for response in responses] == [404, 404, 404]
        assert (await submit(client, {"Prefer": "wait=1"})).status_code == 202
