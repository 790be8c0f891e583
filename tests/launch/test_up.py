"""``infill up`` with the real API, the real worker and a real Redis."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from jobs.queue import JobQueue
from jobs.settings import QueueSettings
from launch import ports
from launch.settings import SAMPLE
from launch.side_by_side import changed_outside_mask
from tests.launch.launcher import Launcher, Up, environment_of, eventually, lives
from tests.programs import program
from tests.redis_server import RedisServer

DEMO = SAMPLE
LEASE_S = 15
ONE_THREAD = {"INFILL_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that was there before the launcher."""
    server = RedisServer(tmp_path_factory.mktemp("own-redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def pair(own_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Up]]:
    """Two launchers: one has a port and a Redis named, the other takes a free port and its own, with two workers."""
    wanted = ports.reserve_any("127.0.0.1")
    wanted.release()
    port = str(wanted.number)
    first = Up(tmp_path_factory.mktemp("first"), "--port", port, INFILL_REDIS_URL=own_redis.url, **ONE_THREAD)
    lease = {"INFILL_LEASE_S": str(LEASE_S)}
    second = Up(tmp_path_factory.mktemp("second"), "--workers", "2", **ONE_THREAD, **lease)
    try:
        first.wait_until_ready()
        second.wait_until_ready()
        yield first, second
    finally:
        first.end()
        second.end()


@pytest.fixture
def first(pair: tuple[Up, Up]) -> Up:
    return pair[0]


@pytest.fixture
def second(pair: tuple[Up, Up]) -> Up:
    return pair[1]


def submit(http: httpx.Client, steps: int) -> str:
    files = {name: (DEMO / f"{file}.png").read_bytes() for name, file in (("image", "photo"), ("mask", "mask"))}
    answer = http.post("/v1/inpaint", files=files, data={"num_inference_steps": str(steps), "strength": "1"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def wait_until_stepping(http: httpx.Client, job_id: str, attempt: int, timeout_s: float) -> None:
    def holds() -> bool:
        job = http.get(f"/v1/jobs/{job_id}").json()
        assert job["status"] in ("queued", "running"), job
        return bool(job["attempt"] == attempt and job["progress"]["step"] > 0)

    eventually(holds, timeout_s, f"attempt {attempt} of {job_id} does not step")


def test_two_stacks_run_side_by_side(first: Up, second: Up) -> None:
    assert first.url != second.url
    for up in (first, second):
        with up.http() as http:
            assert http.get("/readyz").status_code == 200
    assert [len(first.running(part)) for part in ("-m app", "-m worker")] == [1, 1]
    assert [len(second.running(part)) for part in ("-m app", "-m worker")] == [1, 2]


def test_a_named_redis_is_used_and_no_other_is_started(first: Up, second: Up, own_redis: RedisServer) -> None:
    assert first.redis_url == own_redis.url
    assert not first.running("valkey-server") and not first.running("redis-server")
    assert second.redis_url != own_redis.url


def test_the_printed_curl_line_repaints_the_demo_photo(first: Up, tmp_path: Path) -> None:
    program("curl")
    line = next(line for line in first.said.splitlines() if line.lstrip().startswith("curl "))
    subprocess.run(["sh", "-c", line.replace("@launch/sample/", f"@{DEMO}/")], cwd=tmp_path, check=True)
    result = tmp_path / "repainted.png"
    assert result.read_bytes().startswith(b"\x89PNG"), result.read_bytes()[:500]
    assert changed_outside_mask(DEMO / "photo.png", DEMO / "mask.png", result) == 0


def test_the_jobs_of_a_killed_worker_go_on_at_once_and_the_worker_comes_back(second: Up) -> None:
    eventually(lambda: len(second.workers()) == 2, 60, "the second worker does not come up")
    eventually(
        lambda: second.redis_uptime_s() > LEASE_S + 3, LEASE_S + 5, "workers spare leases after a restart of Redis"
    )
    with second.http() as http:
        job_id = submit(http, steps=200)
        wait_until_stepping(http, job_id, attempt=1, timeout_s=60)
        eventually(lambda: second.holder_of(job_id), 15, "no worker says that it has the job")
        name = second.holder_of(job_id)
        pid = next(pid for pid in second.running("-m worker") if environment_of(pid)["INFILL_WORKER_NAME"] == name)
        os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until_stepping(http, job_id, attempt=2, timeout_s=30)
        assert time.monotonic() - killed_at < LEASE_S / 2, "only the lease's end brought the job back"
        assert http.delete(f"/v1/jobs/{job_id}").is_success
    label = name.rpartition("-")[0]
    assert (
        f"{label} (process {pid}) was killed by SIGKILL, 1 of its jobs given back; next start in 0.5 s" in second.said
    )
    eventually(lambda: len(second.running("-m worker")) == 2, 30, "the killed worker was not started again")


def test_ctrl_c_during_the_start_leaves_no_process(launch: Callable[..., Launcher], first: Up) -> None:
    third = launch("up", INFILL_VAR_DIR=str(first.folder / "var"))
    third.wait_for("starting the API and 1 worker")
    third.send(signal.SIGINT)
    assert third.wait() == 0, third.said
    assert "up-1" in third.said  # the first one holds up-0
    assert len(third.children) == 3
    assert third.survivors() == {}


def test_sigterm_lets_the_running_job_finish_and_leaves_no_process(first: Up, own_redis: RedisServer) -> None:
    with first.http() as http:
        job_id = submit(http, steps=8)
        wait_until_stepping(http, job_id, attempt=1, timeout_s=60)
    first.send(signal.SIGTERM)
    assert first.wait() == 0, first.said
    assert first.said.endswith("stopped\n")
    assert first.survivors() == {}
    with Redis.from_url(own_redis.url) as connection:  # it was not ours to stop
        job = JobQueue(connection, QueueSettings.model_validate({})).job(job_id)
        assert job.get_status() == "finished"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="PR_SET_PDEATHSIG is Linux only")
def test_a_launcher_that_is_killed_takes_its_processes_along(second: Up) -> None:
    children = second.running("")
    assert len(children) == 4
    second.send(signal.SIGKILL)
    second.wait()
    eventually(lambda: not any(lives(pid) for pid in children), 15, f"alive: {second.survivors()}")
