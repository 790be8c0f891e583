"""What callers are told of the time that their job will take, by the real service."""

import time

import httpx

from tests.e2e.stack import has_ended, submit


def test_waiting_jobs_are_told_when_they_will_end_and_the_time_falls_as_those_ahead_do(client: httpx.Client) -> None:
    fillers = [submit(client, num_inference_steps=24, strength=1.0, seed=seed).json()["id"] for seed in range(8)]
    short = submit(client, num_inference_steps=2).json()
    behind = [submit(client, num_inference_steps=24, strength=1.0, seed=seed).json() for seed in range(8, 12)]
    last = submit(client, num_inference_steps=10).json()
    assert 0 < short["progress"]["eta_ms"] < last["progress"]["eta_ms"]

    began, told = time.monotonic(), []
    while time.monotonic() < began + 240 and not has_ended(job := client.get(f"/v1/jobs/{last['id']}").json()):
        if job["status"] == "queued" and job["queue_position"] is not None:  # not on its way to the worker
            told.append(job["progress"]["eta_ms"])
        time.sleep(0.2)
    assert job["status"] == "succeeded" and job["progress"]["eta_ms"] == 0
    assert None not in told
    assert told[-1] < told[0]
    for job_id in (*fillers, *(job["id"] for job in behind)):
        client.delete(f"/v1/jobs/{job_id}")
    exposed = client.get("/metrics").text
    assert "\ninfill_queue_cost_seconds " in exposed
