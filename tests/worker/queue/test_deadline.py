"""What counts against a job's deadline, and what does not: real Redis, real networks, loads that really take long."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs.connection import connect_worker
from jobs.speed import Speed
from tests.redis_server import RedisServer
from tests.worker.office import DEADLINE_S, Office, named
from worker.engine.stopwatch import PHASES, Stopwatch
from worker.families.base import Family

LOAD_S = 2.5


def test_a_load_that_outlasts_the_deadline_fails_neither_the_job_that_waits_for_it_nor_one_that_runs(
    connection: Redis, tmp_path: Path
) -> None:
    def load(name: str) -> Family:
        if name == "b":
            time.sleep(LOAD_S)
        return named(name)

    office = Office(connection, tmp_path, load)
    office.models.load_first()
    running, waiting = office.submit("a", steps=50), office.submit("b")
    office.run()
    for job_id in (running, waiting):
        spent = office.report(job_id).timings.model_dump()
        assert spent["load"] >= 1000 * LOAD_S
        assert sum(spent[phase] for phase in PHASES) == pytest.approx(spent["total"], abs=0.1)


def test_a_measurement_that_outlasts_the_deadline_fails_no_job(connection: Redis, tmp_path: Path) -> None:
    def measure(*_: object) -> list[Speed]:
        time.sleep(LOAD_S)
        return []

    office = Office(connection, tmp_path, named, measure)
    job_id = office.submit("b")
    office.run()
    assert office.report(job_id).timings.load >= 1000 * LOAD_S


def test_a_job_that_itself_runs_longer_than_its_deadline_fails_and_is_not_tried_again(
    connection: Redis, tmp_path: Path
) -> None:
    office = Office(connection, tmp_path, partial(named, pass_s=0.2))
    long, short = office.submit("a", steps=200), office.submit("a", steps=2)
    office.run()
    job = office.queue.job(long)
    problem = office.problem(long)
    assert (job.get_status(), job.retries_left, problem.code) == (RqStatus.FAILED, 0, "deadline_exceeded")
    assert office.report(short)


def test_while_a_model_is_loaded_its_job_is_loading_and_nobody_has_an_eta(connection: Redis, tmp_path: Path) -> None:
    seen: dict[str | tuple[str, str], Any] = {}

    def load(name: str) -> Family:
        """Looks at what others see while the engine's thread is busy here."""
        store = office.queue.store
        seen[name] = [store.progress(job_id) for job_id in (running, waiting)], store.speeds(["w"])
        office.worker.upkeep.beat()
        seen[name, "beat"] = store.speeds(["w"])
        return named(name)

    office = Office(connection, tmp_path, load)
    running, waiting = office.submit("a", steps=50), office.submit("b")
    office.run()
    (runs, waits), speeds = seen["b"]
    assert runs["loading"] == 0 and runs["step"] > 0 and waits["loading"] == 1
    assert not {"eta_ms"} & {*runs, *waits}
    assert speeds["w"].loading == seen["b", "beat"]["w"].loading == ["b"]
    assert [office.queue.store.progress(job_id)["loading"] for job_id in (running, waiting)] == [0, 0]
    office.worker.upkeep.beat()
    assert office.queue.store.speeds(["w"])["w"].loading == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", append_only=True) as made:
        yield made


@pytest.mark.parametrize("connect", [connect_worker, partial(Redis.from_url, socket_timeout=1)])
def test_time_without_redis_does_not_count(
    server: RedisServer, tmp_path: Path, connect: Callable[[str], Redis]
) -> None:
    """With a client that rides out the outage, and with one that raises at once."""
    deadline_s = 2 * DEADLINE_S  # of which the job itself needs a tenth, unless the machine is slow
    office = Office(connect(server.url), tmp_path, partial(named, pass_s=0.02), job_deadline_s=deadline_s)
    job_id = office.submit("a", steps=20)
    with ThreadPoolExecutor() as threads:  # the server lives as long as the thread that starts it, so that is this one
        running = threads.submit(office.run)
        while not any(task.step for task in office.session.tasks):
            assert not running.done(), running.result()
            time.sleep(0.01)
        server.kill()
        time.sleep(deadline_s + 0.5)
        server.start()
        running.result()
    assert office.report(job_id).timings.wait > 1000 * deadline_s


# ---- the account


def test_a_hold_up_is_no_time_of_a_job_that_stood_ready_and_its_steps_do_not_look_longer() -> None:
    began = time.perf_counter()
    stopwatch = Stopwatch(queued_s=100)
    stopwatch.enter("denoise")
    stopwatch.stepped(1, 1)
    time.sleep(0.3)
    stopwatch.held_up(0.2, "load")
    stopwatch.held_up(0.1, "redis")
    stopwatch.stepped(1, 2)
    own_s = time.perf_counter() - began - 0.3
    assert stopwatch.step_s() <= own_s
    before_s, spent, after_s = stopwatch.own_s, stopwatch.timings(2), stopwatch.own_s
    assert before_s <= spent.total / 1000 - 100 - 0.3 <= after_s + 1e-5
    assert spent.load == pytest.approx(200) and spent.wait >= 100


def test_what_a_codec_thread_does_meanwhile_counts_and_a_hold_up_begins_when_it_is_done() -> None:
    busy, done = Stopwatch(0.0), Stopwatch(0.0)
    busy.enter("decode")
    done.enter("decode")
    time.sleep(0.2)
    ready = time.perf_counter()
    done.enter("wait")
    time.sleep(0.1)
    for stopwatch in (busy, done):
        stopwatch.held_up(0.3, "load")
    assert busy.timings(1).load == 0 and busy.own_s >= 0.3
    assert 100 <= done.timings(1).load <= 1000 * (time.perf_counter() - ready)


@pytest.mark.parametrize("phase", ["queue", "fetch", "load", "store"])
def test_waiting_for_a_worker_a_model_or_redis_is_no_time_of_the_job(phase: str) -> None:
    began = time.perf_counter()
    stopwatch = Stopwatch(0.0)
    stopwatch.enter(phase)
    time.sleep(0.2)
    assert stopwatch.own_s <= time.perf_counter() - began - 0.2
    stopwatch.enter("decode")
    assert stopwatch.own_s <= time.perf_counter() - began - 0.2
