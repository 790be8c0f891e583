"""A real worker over a Redis that answers and does not serve: at its start, while it is idle, while it runs a job."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.fleet import LEASE_S, SETTINGS
from tests.e2e.stack import Stack, submit, wait_for
from tests.redis_server import RedisServer
from tests.redis_states import EACH_STATE, STATES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture(scope="module")
def stack(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Its worker was started while Redis took no writes, and waited."""
    with Stack(server.url, tmp_path_factory.mktemp("stack"), **SETTINGS) as made:
        made.start_api()
        with STATES["NOREPLICAS"](server):
            worker = made.start_worker()
            while "Redis does not answer" not in worker.log.read_text():
                assert worker.popen.poll() is None, worker.log.read_text()
                time.sleep(0.1)
        made.wait_until_ready()
        yield made


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made


@EACH_STATE
def test_no_state_of_redis_ends_the_worker_and_its_job_succeeds_at_its_first_attempt(
    server: RedisServer, stack: Stack, client: httpx.Client, state: str
) -> None:
    (worker,) = stack.workers
    with STATES[state](server):
        time.sleep(1.5)  # idle, longer than it blocks for a job
    stack.wait_until_ready()
    job_id = submit(client, num_inference_steps=60).json()["id"]
    wait_for(client, job_id, "running")
    with STATES[state](server):
        time.sleep(1.5)
    job = wait_for(client, job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 1), job
    assert worker.popen.poll() is None


def test_a_worker_is_stopped_while_redis_takes_no_writes_and_exits_with_0(server: RedisServer, stack: Stack) -> None:
    with STATES["READONLY"](server):
        assert stack.workers[0].end(timeout_s=LEASE_S + 25) == 0
