"""Callers who close their connection: the job goes on, unless they asked for its end. A real server, real sockets."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.app.processes import ApiProcess
from tests.app.settling import Settler, inputs_of, our_keys
from tests.app.submissions import files

CANCEL: dict[str, Any] = {"on_disconnect": "cancel"}


def leave(api: ApiProcess, wait_s: int = 30, **fields: str) -> None:
    """Submit, wait 0.7 s for the answer, close the connection; return when the API has noticed."""
    headers = {"Prefer": f"wait={wait_s}", "X-Request-ID": f"left-{time.monotonic_ns()}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{api.url}/v1/inpaint", files=files(), data=fields, headers=headers, timeout=0.7)
    until(lambda: request_line(api, headers["X-Request-ID"]) is not None)
    line = request_line(api, headers["X-Request-ID"])
    assert line is not None and line["status"] == 499


def request_line(api: ApiProcess, request_id: str) -> dict[str, Any] | None:
    lines = (json.loads(line) for line in api.log_text().splitlines())
    return next((line for line in lines if line.get("request_id") == request_id), None)


def until(condition: Callable[[], object], timeout_s: float = 10) -> None:
    """Far less than the wait of the calls."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status_of(api: ApiProcess, job_id: str) -> str:
    return str(httpx.get(f"{api.url}/v1/jobs/{job_id}").json()["status"])


def test_the_job_of_a_caller_who_leaves_goes_on(api: ApiProcess, settler: Settler) -> None:
    leave(api)
    (job_id,) = settler.queue.rq.get_job_ids()
    settler.start(job_id)
    settler.succeed(job_id, [b"image"])
    assert httpx.get(f"{api.url}/v1/jobs/{job_id}/images/0").content == b"image"


def test_a_waiting_job_whose_caller_wants_it_so_is_canceled(api: ApiProcess, settler: Settler) -> None:
    leave(api, **CANCEL)
    (job_id,) = settler.queue.rq.canceled_job_registry.get_job_ids(cleanup=False)
    assert status_of(api, job_id) == "canceled"
    assert settler.queue.depth() == 0
    assert not our_keys(settler.queue.connection) & inputs_of(job_id)
    assert 'infill_jobs_cancel_requests_total{code="left"}' in httpx.get(f"{api.url}/metrics").text


def test_a_running_job_whose_caller_wants_it_so_is_told_to_stop(api: ApiProcess, settler: Settler) -> None:
    with ThreadPoolExecutor() as threads:
        leaving = threads.submit(leave, api, **CANCEL)
        until(settler.queue.depth)
        (job_id,) = settler.queue.rq.get_job_ids()
        settler.start(job_id)
        leaving.result()
    settler.stop(job_id)  # holds that the flag is set, as a worker's next step boundary does
    assert status_of(api, job_id) == "canceled"


def test_a_wait_that_ends_by_its_own_time_cancels_nothing(api: ApiProcess, settler: Settler) -> None:
    with httpx.Client() as client:
        answer = client.post(f"{api.url}/v1/inpaint", files=files(), data=CANCEL, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "wait=1")
    time.sleep(1.5)  # the connection is closed now, and the API has had the time to see it
    assert status_of(api, answer.json()["id"]) == "queued"
    assert settler.queue.depth() == 1


def test_a_reader_who_leaves_the_event_stream_cancels_nothing(api: ApiProcess, settler: Settler) -> None:
    answer = httpx.post(f"{api.url}/v1/inpaint", files=files(), data=CANCEL, headers={"Prefer": "wait=0"})
    with httpx.stream("GET", f"{api.url}/v1/jobs/{answer.json()['id']}/events", timeout=10) as response:
        next(response.iter_lines())
    time.sleep(1.5)
    assert status_of(api, answer.json()["id"]) == "queued"
    assert settler.queue.depth() == 1


def test_a_call_that_does_not_wait_cannot_be_left(api: ApiProcess, settler: Settler) -> None:
    answer = httpx.post(f"{api.url}/v1/inpaint", files=files(), data=CANCEL)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field")
    assert "Prefer: wait=30" in answer.json()["detail"]
    assert settler.queue.depth() == 0


def test_the_same_key_with_another_wish_is_the_same_request(api: ApiProcess) -> None:
    """The field is about the call, not about the job."""
    headers = {"Prefer": "wait=0", "Idempotency-Key": "k"}
    first, second = (
        httpx.post(f"{api.url}/v1/inpaint", files=files(), data=data, headers=headers) for data in ({}, CANCEL)
    )
    assert first.json()["id"] == second.json()["id"]
