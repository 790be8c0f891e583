"""Everything leaves Redis when its time is over, and after many jobs nothing is left but what was there before."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from jobs import keys
from tests.e2e.soak import RECORD_TTL_S, RESULT_TTL_S, SETTINGS, Soak, key_names
from tests.e2e.stack import Stack, submit, wait_for
from tests.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("soak")

JOBS = 60
CHEAP: dict[str, Any] = {"num_inference_steps": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("lifetimes-redis")) as made:
        yield made


@pytest.fixture(scope="module")
def connection(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url) as made:
        yield made


@pytest.fixture(scope="module")
def stack(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The second API gives uploads two seconds."""
    with Stack(server.url, tmp_path_factory.mktemp("lifetimes"), **SETTINGS) as made:
        made.start_worker()
        made.start_api()
        made.env["INFILL_INPUT_TTL_S"] = "2"
        made.start_api()
        made.wait_until_up()
        made.wait_until_ready(240)
        yield made


@pytest.fixture(scope="module")
def soak(stack: Stack, connection: Redis) -> Soak:
    """Knows Redis as it was before any job."""
    return Soak(stack, connection)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made


def seconds_until(condition: Callable[[], bool], timeout_s: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s
        time.sleep(0.05)
    return time.monotonic() - began


def inputs(job_id: str) -> set[str]:
    return {keys.picture(job_id, "image"), keys.picture(job_id, "mask"), keys.caller(job_id)}


def test_a_result_is_gone_on_time_and_its_record_later(client: httpx.Client, connection: Redis) -> None:
    job = submit(client, {"Prefer": "wait=60"}, **CHEAP).json()
    image, record = job["images"][0]["url"], f"/v1/jobs/{job['id']}"
    assert client.get(image).is_success
    assert not key_names(connection) & inputs(job["id"]), "uploads go as soon as the job has ended"
    taken_s = seconds_until(lambda: client.get(image).status_code != 200, RESULT_TTL_S + 3)
    assert taken_s > RESULT_TTL_S - 3
    gone = client.get(image)
    assert (gone.status_code, gone.json()["code"]) == (410, "result_expired")
    assert client.get(record).json()["status"] == "succeeded"
    seconds_until(lambda: client.get(record).status_code != 200, RECORD_TTL_S + 3)
    assert client.get(record).json()["code"] == client.get(image).json()["code"] == "job_not_found"


def test_uploads_that_no_worker_takes_are_gone_on_time(stack: Stack, connection: Redis) -> None:
    (worker,) = stack.workers
    worker.send(signal.SIGSTOP)
    try:
        with stack.client(1) as client:
            job_id = submit(client, **CHEAP).json()["id"]
            assert key_names(connection) & inputs(job_id)
            seconds_until(lambda: not key_names(connection) & inputs(job_id), 2 + 2)
    finally:
        worker.send(signal.SIGCONT)
    with stack.client() as client:
        job = wait_for(client, job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "undecodable_job")


def test_after_many_jobs_redis_is_back_at_its_base_line(soak: Soak) -> None:
    """The short form of ``python -m tests.e2e.soak``."""
    soak.run(JOBS)
    soak.wait_until_gone()
