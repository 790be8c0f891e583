"""No accepted job is lost: real processes, real signals."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from jobs import keys
from tests.e2e.fleet import LEASE_S, Fleet
from tests.e2e.stack import Stack, submit, wait_for
from tests.redis_server import RedisServer, free_port

LONG: dict[str, Any] = {"num_inference_steps": 40}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with RedisServer(folder / "redis", append_only=True) as server, Fleet(server, folder) as made:
        made.start_api()
        made.start_worker()
        made.wait_until_ready()
        made.workers[0].end()
        yield made


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with fleet.client() as made:
        yield made


def ended(client: httpx.Client, job_ids: list[str]) -> list[dict[str, Any]]:
    return [wait_for(client, job_id, timeout_s=180) for job_id in job_ids]


def test_jobs_of_a_killed_worker_are_run_again_elsewhere(fleet: Fleet, client: httpx.Client) -> None:
    fleet.hire(2)
    job_ids = [submit(client, seed=seed, **LONG).json()["id"] for seed in range(3)]
    victim = fleet.holder_of(job_ids[0])
    lost = [job_id for job_id in job_ids if fleet.holder_of(job_id) == victim]
    fleet.kill(victim)
    killed_at = time.monotonic()
    for job_id in lost:
        while client.get(f"/v1/jobs/{job_id}").json()["attempt"] < 2:
            assert time.monotonic() - killed_at < LEASE_S + 2 + 5, "not taken up again in time"
            time.sleep(0.05)
    jobs = ended(client, job_ids)
    assert [job["status"] for job in jobs] == ["succeeded"] * 3
    assert {job["attempt"] for job in jobs if job["id"] in lost} == {2}
    assert all(client.get(job["images"][0]["url"]).is_success for job in jobs)


def test_without_any_worker_jobs_stay_as_they_are_until_one_starts(fleet: Fleet, client: httpx.Client) -> None:
    """Only workers look for lapsed leases. What the operator sees meanwhile is what docs/operations.md says."""
    fleet.hire(1)
    running, canceled = (submit(client, seed=seed, **LONG).json()["id"] for seed in range(2))
    wait_for(client, canceled, "running")
    fleet.kill(fleet.holder_of(running))
    waiting = submit(client, num_inference_steps=2).json()["id"]
    deadline = time.monotonic() + LEASE_S + 5
    while (ready := client.get("/readyz")).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ready.json()["code"] == "no_worker" and "pocket" in ready.json()["detail"]
    gauges = client.get("/metrics").text
    assert 'infill_model_workers{model="pocket"} 0.0' in gauges and "infill_workers 0.0" in gauges
    assert client.get(f"/v1/jobs/{running}").json()["status"] == "running"
    assert client.get(f"/v1/jobs/{waiting}").json()["status"] == "queued"
    assert client.delete(f"/v1/jobs/{canceled}").status_code == 202
    fleet.hire(1)
    jobs = ended(client, [running, canceled, waiting])
    assert [job["status"] for job in jobs] == ["succeeded", "canceled", "succeeded"]
    assert [job["attempt"] for job in jobs] == [2, 1, 1]


def test_sigterm_lets_the_worker_finish_what_it_has_and_exit_with_0(fleet: Fleet, client: httpx.Client) -> None:
    fleet.hire(1)
    job_id = submit(client, num_inference_steps=60).json()["id"]
    name = fleet.holder_of(job_id)
    fleet.named[name].send(signal.SIGTERM)
    waiting = submit(client, num_inference_steps=2).json()["id"]
    assert fleet.named[name].popen.wait(60) == 0
    done = client.get(f"/v1/jobs/{job_id}").json()
    assert done["status"] == "succeeded" and done["attempt"] == 1
    assert client.get(f"/v1/jobs/{waiting}").json()["status"] == "queued"
    fleet.hire(1)
    assert wait_for(client, waiting)["status"] == "succeeded"


def test_a_second_sigterm_hands_the_jobs_back_without_spending_an_attempt(fleet: Fleet, client: httpx.Client) -> None:
    fleet.hire(1)
    job_id = submit(client, num_inference_steps=80, crop="off").json()["id"]
    name = fleet.holder_of(job_id)
    for _ in range(2):
        fleet.named[name].send(signal.SIGTERM)
        time.sleep(0.3)
    assert fleet.named[name].popen.wait(30) == 0
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "queued"
    fleet.hire(1)
    job = wait_for(client, job_id)
    assert job["status"] == "succeeded" and job["attempt"] == 1


def test_a_frozen_worker_writes_no_second_result(fleet: Fleet, client: httpx.Client) -> None:
    fleet.hire(2)
    job_id = submit(client, seed=5, **LONG).json()["id"]
    frozen = fleet.holder_of(job_id)
    fleet.named[frozen].send(signal.SIGSTOP)
    job = wait_for(client, job_id, timeout_s=120)
    image = client.get(job["images"][0]["url"])
    fleet.named[frozen].send(signal.SIGCONT)
    time.sleep(LEASE_S)
    assert job["status"] == "succeeded" and job["attempt"] == 2
    assert client.get(f"/v1/jobs/{job_id}").json() == job
    assert image.is_success and client.get(job["images"][0]["url"]).content == image.content
    assert "lost the lease" in fleet.named[frozen].log.read_text()


def test_a_job_that_kills_its_workers_fails_and_its_batch_mates_finish(fleet: Fleet, client: httpx.Client) -> None:
    fleet.hire(2)
    fleet.start(4)  # replacements warm up beside the first two
    poison = submit(client, num_inference_steps=80, crop="off").json()["id"]
    mates = [submit(client, num_inference_steps=40, seed=seed).json()["id"] for seed in range(3)]
    deaths = 0
    while (job := next_attempt(client, poison, deaths + 1))["status"] != "failed":
        fleet.kill(fleet.holder_of(poison))
        deaths += 1
    assert deaths == 3
    assert job["error"]["code"] == "crashed" and job["ended_at"]
    assert job["attempt"] == deaths
    finished = ended(client, mates)
    assert [job["status"] for job in finished] == ["succeeded"] * 3
    assert all(job["attempt"] <= deaths for job in finished), "the last death was the poison's alone"


def test_a_job_that_ran_out_of_attempts_ends_as_every_other_one(tmp_path: Path) -> None:
    """Whoever waits for it is woken, its uploads go, it is counted, and the worker that found it says so."""
    port = free_port()
    settings = {"INFILL_MAX_ATTEMPTS": "2", "INFILL_POLL_S": "600", "INFILL_MAX_WAIT_S": "200"}
    with (
        RedisServer(tmp_path / "redis", append_only=True) as server,
        Fleet(server, tmp_path, **settings) as fleet,
        ThreadPoolExecutor() as threads,
        Redis.from_url(server.url) as redis,
    ):
        fleet.start_api()
        fleet.wait_until_up()
        fleet.hire(2)
        with fleet.client() as client:
            key = {"Idempotency-Key": "k"}
            job_id = submit(client, key, num_inference_steps=200, crop="off").json()["id"]
            waiting = threads.submit(submit, client, key | {"Prefer": "wait=200"}, num_inference_steps=200, crop="off")
            fleet.kill(fleet.holder_of(job_id))
            fleet.kill(fleet.holder_of(job_id))
            finder = fleet.start_worker(INFILL_METRICS_PORT=str(port))
            crashed = waiting.result(timeout=120).json()
            assert (crashed["error"]["code"], crashed["attempt"]) == ("crashed", 2)
        assert not [key for key in redis.keys(f"infill:{job_id}:*") if not key.endswith(b":progress")]
        assert redis.llen(keys.ENDED) == 1
        counted = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        assert 'infill_jobs_ended_total{outcome="crashed"} 1.0' in counted
        assert f"job {job_id} failed: crashed" in finder.log.read_text()


def next_attempt(client: httpx.Client, job_id: str, attempt: int, timeout_s: float = 240) -> dict[str, Any]:
    """The job once it runs for the ``attempt``-th time, or has failed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["status"] == "failed" or (job["status"] == "running" and job["attempt"] == attempt):
            return job
        time.sleep(0.05)
    raise TimeoutError(f"job {job_id} is {job}")


def test_redis_killed_and_restarted_loses_no_job_and_the_api_says_503_meanwhile(
    fleet: Fleet, client: httpx.Client
) -> None:
    fleet.hire(1)
    job_ids = [submit(client, seed=seed, num_inference_steps=30).json()["id"] for seed in range(4)]
    fleet.holder_of(job_ids[0])
    fleet.server.kill()
    began = time.monotonic()
    refused = submit(client)
    assert refused.status_code == 503 and refused.json()["code"] == "store_unavailable"
    assert int(refused.headers["retry-after"]) >= 1
    assert client.get("/readyz").status_code == 503
    assert time.monotonic() - began < 15
    fleet.server.start()
    jobs = ended(client, job_ids)
    assert [job["status"] for job in jobs] == ["succeeded"] * 4
    assert [job["attempt"] for job in jobs] == [1] * 4, "an absence of Redis spends no attempt"
    assert submit(client, {"Prefer": "wait=60"}, num_inference_steps=2).json()["status"] == "succeeded"


def test_a_job_over_its_deadline_fails_at_the_next_step(fleet: Fleet) -> None:
    """The deadline is the submitting API's setting and travels with the job."""
    fleet.hire(1)
    with Stack(fleet.server.url, fleet.folder, INFILL_JOB_DEADLINE_S="2") as hasty:
        hasty.start_api()
        hasty.wait_until_ready()
        with hasty.client() as client:
            job = wait_for(client, submit(client, num_inference_steps=80, crop="off").json()["id"], timeout_s=60)
    assert job["status"] == "failed"
    assert job["error"]["code"] == "deadline_exceeded"
    assert job["attempt"] == 1, "it was tried again"
