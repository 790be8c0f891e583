"""Everything leaves Redis when its time is over, and after many jobs nothing is left but what was there before."""

import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from redis import Redis

from jobs import keys
from tests.e2e.stack import Stack, has_ended, submit, wait_for
from tests.redis_server import RedisServer

pytestmark = pytest.mark.usefixtures("base_line")

JOBS = 36
RESULT_TTL_S = 4
RECORD_TTL_S = 20
CHEAP = {"num_inference_steps": 1}
KEPT = {keys.ENDED, "rq:queues"}
"""The drain rate's sample, a list of bounded length; and the names of queues that were ever used: one."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path_factory.mktemp("lifetimes-redis"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def connection(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url) as made:
        yield made


@pytest.fixture(scope="module")
def stack(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The second API gives uploads two seconds."""
    lifetimes = {"INFILL_RESULT_TTL_S": str(RESULT_TTL_S), "INFILL_RECORD_TTL_S": str(RECORD_TTL_S)}
    made = Stack(server.url, tmp_path_factory.mktemp("lifetimes"), INFILL_SEATS="4", **lifetimes)
    try:
        made.start_worker()
        made.start_api()
        made.env["INFILL_INPUT_TTL_S"] = "2"
        made.start_api()
        made.wait_until_up()
        made.wait_until_ready(240)
        yield made
    finally:
        made.end()


@pytest.fixture(scope="module")
def base_line(stack: Stack, connection: Redis) -> tuple[set[str], int]:  # noqa: ARG001
    """Keys and memory before any job."""
    return names(connection), memory(connection)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made


def names(connection: Redis) -> set[str]:
    """All keys but the locks that a worker takes for a moment while it cleans up."""
    return {key.decode() for key in connection.keys("*") if not key.startswith(b"rq:clean_")}


def memory(connection: Redis) -> int:
    return int(connection.info("memory")["used_memory"])


def seconds_until(condition: Callable[[], bool], timeout_s: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s
        time.sleep(0.05)
    return time.monotonic() - began


def look(client: httpx.Client, ends: dict[str, str]) -> bool:
    """Write down how the jobs have ended that had not; whether all have. Often enough that no record expires unseen."""
    for job_id in [job_id for job_id, status in ends.items() if not status]:
        job = client.get(f"/v1/jobs/{job_id}").json()
        ends[job_id] = job["status"] if has_ended(job) else ""
    return all(ends.values())


def inputs(job_id: str) -> set[str]:
    return {keys.image(job_id), keys.mask(job_id), keys.caller(job_id)}


def test_a_result_is_gone_on_time_and_its_record_later(client: httpx.Client, connection: Redis) -> None:
    job = submit(client, {"Prefer": "wait=60", "X-API-Key": "a"}, **CHEAP).json()
    image, record = job["images"][0]["url"], f"/v1/jobs/{job['id']}"
    assert client.get(image).is_success
    assert not names(connection) & inputs(job["id"]), "uploads go as soon as the job has ended"
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
            assert names(connection) & inputs(job_id)
            seconds_until(lambda: not names(connection) & inputs(job_id), 2 + 2)
    finally:
        worker.send(signal.SIGCONT)
    with stack.client() as client:
        job = wait_for(client, job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "undecodable_job")


def test_after_many_jobs_redis_is_back_at_its_base_line(
    base_line: tuple[set[str], int], client: httpx.Client, connection: Redis
) -> None:
    """Succeeded and canceled ones, waiting and running, with and without idempotency and API keys."""
    keys_before, memory_before = base_line
    running = submit(client, num_inference_steps=200, crop="off").json()["id"]
    wait_for(client, running, "running")
    ends = {running: ""}
    for index in range(JOBS):
        headers = {"Idempotency-Key": f"k{index}"} if index % 3 == 0 else {}
        headers |= {"X-API-Key": f"c{index % 4}"} if index % 2 == 0 else {}
        job_id = submit(client, headers, **CHEAP).json()["id"]
        ends[job_id] = ""
        if index % 6 == 0:
            client.delete(f"/v1/jobs/{job_id}")
            look(client, ends)
    client.delete(f"/v1/jobs/{running}")
    assert memory(connection) > memory_before + 5_000_000
    seconds_until(lambda: look(client, ends), 180)
    assert set(ends.values()) == {"succeeded", "canceled"} and ends[running] == "canceled"
    seconds_until(lambda: names(connection) <= keys_before | KEPT, RECORD_TTL_S + 15)
    assert memory(connection) < memory_before + 2_000_000
    assert connection.llen(keys.ENDED) <= 64
