"""Leases hold whatever the workers' clocks say: a process whose clock is ahead or behind, and one that is right."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from rq.job import Job
from rq.job import JobStatus as RqStatus

from jobs.queue import JobQueue
from jobs.speed import WorkerSpeed
from tests.jobs.submissions import MASK, PARAMETERS
from tests.redis_server import RedisServer
from tests.tethered import tethered
from tests.worker.batch_workers import SETTINGS, make_worker
from worker.queue.rq_worker import BatchWorker

ROOT = Path(__file__).parents[3]
LAPSED = 1.0


class Skewed:
    """``tests/worker/skewed.py``."""

    def __init__(self, redis_url: str, skew_s: float) -> None:
        path = os.pathsep.join([str(ROOT / "tests" / "skewed_clock"), str(ROOT)])
        self.process = subprocess.Popen(
            tethered([sys.executable, "-m", "tests.worker.skewed", redis_url]),
            env={**os.environ, "PYTHONPATH": path, "SKEW_S": str(skew_s), "INFILL_LEASE_S": "3"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert abs(float(self._line()) - time.time() - skew_s) < 5

    def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        assert self._line() == "done"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module", params=[-90.0, 90.0], ids=["behind", "ahead"])
def skew_s(request: pytest.FixtureRequest) -> float:
    made: float = request.param
    return made


@pytest.fixture(scope="module")
def skewed(redis_server: RedisServer, skew_s: float) -> Iterator[Skewed]:
    made = Skewed(redis_server.url, skew_s)
    yield made
    made.end()


def submitted(connection: Redis) -> Job:
    queue = JobQueue(connection, SETTINGS)
    return queue.job(queue.submit(PARAMETERS, MASK, {"image": b"image", "mask": b"mask"}).job_id)


def begun(worker: BatchWorker) -> str:
    """The lease, as RQ names it."""
    job = worker._queue().pop(None)
    assert job is not None
    execution = worker.prepare_execution(job)
    worker.prepare_job_execution(job, True)
    return str(execution.composite_key)


def wait_for_trust(connection: Redis) -> None:
    """No lease is declared lapsed right after a server's start."""
    while connection.info("server")["uptime_in_seconds"] < SETTINGS.lease_s + 2:
        time.sleep(0.1)


def test_workers_with_different_clocks_leave_each_other_their_jobs_and_reclaim_those_of_the_dead(
    connection: Redis, skewed: Skewed
) -> None:
    wait_for_trust(connection)
    right = make_worker(connection, "right")
    leases, theirs = right._queue().started_job_registry.key, submitted(connection)
    begun(right)
    skewed.do("look for lapsed leases")
    assert theirs.get_status() == RqStatus.STARTED and connection.zcard(leases) == 1

    his = submitted(connection)
    skewed.do("begin a job")
    right.clean_registries()
    assert his.get_status() == RqStatus.STARTED and connection.zcard(leases) == 2
    lease = next(name for name in cast("list[bytes]", connection.zrange(leases, 0, -1)) if his.id.encode() in name)
    now, until = connection.time()[0], connection.zscore(leases, lease)
    assert until is not None and now <= until <= now + SETTINGS.lease_s + 1

    dead = submitted(connection)
    connection.zadd(leases, {begun(right): LAPSED})
    skewed.do("look for lapsed leases")
    assert dead.get_status() == RqStatus.QUEUED and connection.zcard(leases) == 2
    dead_again = begun(right)
    connection.zadd(leases, {lease.decode(): LAPSED, dead_again: LAPSED})
    right.clean_registries()
    assert [job.get_status() for job in (dead, his)] == [RqStatus.QUEUED] * 2


def test_a_worker_says_by_how_much_its_clock_is_wrong(connection: Redis, skewed: Skewed, skew_s: float) -> None:
    skewed.do("beat")
    speed = WorkerSpeed.read(cast("bytes | None", connection.get("infill:speed:skewed")))
    assert speed and speed.clock_ahead_s == pytest.approx(skew_s, abs=2)
    right = make_worker(connection, "right")
    right.upkeep.beat()
    assert abs(right.reporter.clock.ahead_s) < 2


def test_a_job_that_was_popped_and_not_begun_is_stuck_after_a_minute_of_redis(
    connection: Redis, skewed: Skewed
) -> None:
    wait_for_trust(connection)
    right, job = make_worker(connection, "right"), submitted(connection)
    assert right._queue().pop(None) == job
    right.clean_registries()  # sees it first
    skewed.do("look for lapsed leases")
    assert connection.llen(right._queue().intermediate_queue_key) == 1 and connection.llen(right._queue().key) == 0
