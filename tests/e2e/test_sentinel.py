"""Redis behind Sentinel: the master dies, or changes places with its replica; the service goes on by itself."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.sentinel import SentinelGroup, wait_for
from tests.e2e.stack import Stack, has_ended, submit
from tests.e2e.stack import wait_for as wait_for_job

SLOW: dict[str, Any] = {"num_inference_steps": 40, "crop": "off"}
CHEAP: dict[str, Any] = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelGroup]:
    made = SentinelGroup(tmp_path_factory.mktemp("sentinel"))
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def stack(group: SentinelGroup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The lease is shorter than a failover: what was leased has lapsed when Redis is back."""
    settings = {"INFILL_LEASE_S": "3", "INFILL_BEAT_S": "0.9", "INFILL_MAINTENANCE_S": "1", **group.settings}
    with Stack("redis:///0", tmp_path_factory.mktemp("sentinel-stack"), **settings) as made:
        made.start_worker()
        made.start_api()
        made.wait_until_ready(240)
        yield made


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made


def ask(call: Any) -> httpx.Response:
    """The answer to one call while Redis may be away: never a hang, never anything but its answer or a 503."""
    began = time.monotonic()
    response: httpx.Response = call()
    assert time.monotonic() - began < 15
    if not response.is_success:
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable"), response.text
        assert int(response.headers["retry-after"]) >= 1
    return response


def ended(client: httpx.Client, job_id: str, timeout_s: float = 180) -> dict[str, Any]:
    """The job once it has ended; 503s in between are waited out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        answer = ask(lambda: client.get(f"/v1/jobs/{job_id}"))
        if answer.is_success and has_ended(job := answer.json()):
            return dict(job)
        time.sleep(0.1)
    raise TimeoutError(job_id)


def submit_after_an_outage(stack: Stack, client: httpx.Client) -> str:
    """Submit until there is a master that takes writes, which there is not at once. Returns the job's id."""
    refused = 0
    deadline = time.monotonic() + 60
    while not (answer := ask(lambda: submit(client, **CHEAP))).is_success:
        refused += 1
        assert time.monotonic() < deadline, stack.logs()
        time.sleep(0.2)
    assert refused
    return str(answer.json()["id"])


def test_the_master_killed_and_its_replica_put_in_its_place_loses_no_job(
    group: SentinelGroup, stack: Stack, client: httpx.Client
) -> None:
    running = submit(client, **SLOW).json()["id"]
    wait_for_job(client, running, "running")
    waiting = [submit(client, seed=seed, **CHEAP).json()["id"] for seed in range(9)]
    master = group.master()
    group.wait_for_replica(master)
    master.kill()
    after = submit_after_an_outage(stack, client)
    assert group.master() is group.other_than(master)
    jobs = [ended(client, job_id) for job_id in [running, *waiting, after]]
    assert [job["status"] for job in jobs] == ["succeeded"] * len(jobs)
    assert jobs[0]["attempt"] == 1, "a failover spends no attempt"
    assert all(client.get(job["images"][0]["url"]).is_success for job in jobs)


def test_a_planned_failover_loses_no_job_where_a_master_without_replica_takes_no_writes(
    group: SentinelGroup, stack: Stack, client: httpx.Client
) -> None:
    """Sentinel tells the old master last, about ten seconds later: until then its clients would write into the void."""
    master = group.master()
    replica = group.other_than(master)
    if replica.process is None:  # the first test left it dead; a sentinel makes it a replica
        replica.start()
    wait_for(lambda: group.is_replica(replica))
    running = submit(client, **SLOW).json()["id"]
    wait_for_job(client, running, "running")
    waiting = [submit(client, seed=seed, **CHEAP).json()["id"] for seed in range(5)]
    group.wait_for_replica(master)
    group.set_min_replicas(1)
    group.fail_over()
    wait_for(lambda: group.master() is replica)
    after = submit_after_an_outage(stack, client)
    jobs = [ended(client, job_id) for job_id in [running, *waiting, after]]
    assert [job["status"] for job in jobs] == ["succeeded"] * len(jobs)
    assert jobs[0]["attempt"] == 1
    assert "NOREPLICAS" in stack.workers[0].log.read_text()
