"""RQ's loop around the batch session, with a Redis that goes away and comes back. In this process, on a tiny model."""

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry
from rq.exceptions import StopRequested
from rq.job import JobStatus as RqStatus

from jobs.store import Store
from tests.jobs.cutting_proxy import CuttingProxy, cutting_proxy
from tests.redis_server import RedisServer
from tests.worker.batch_workers import (
    SETTINGS,
    attempt,
    begin,
    ends,
    fresh,
    make_worker,
    run,
    submit,
    tiny_model,
    waiting,
)

NEVER_S = 1000.0


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """RQ's loop takes signals and logging over."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    log = logging.getLogger("rq.worker")
    level, writers = log.level, list(log.handlers)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    log.setLevel(level)
    log.handlers[:] = writers


def beside(act: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(redis_server.port) as made:
        yield made


@pytest.fixture
def line(proxy: CuttingProxy, connection: Redis) -> Iterator[Redis]:  # noqa: ARG001  # over an emptied Redis
    """A client over a line that can be cut; it passes every fault on."""
    with Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as client:
        yield client


def cut_for_a_while(proxy: CuttingProxy, seconds: float = 0.5) -> None:
    proxy.away = True
    time.sleep(seconds)
    proxy.away = False


def test_a_worker_runs_what_waits_and_withdraws(connection: Redis) -> None:
    worker = make_worker(connection, "w", tiny_model())
    jobs = [submit(connection, seed=seed) for seed in range(3)]
    assert worker.work(burst=True)
    worker.session.shutdown()
    assert [fresh(job).get_status() for job in jobs] == [RqStatus.FINISHED] * 3
    assert worker.reporter.store.workers() == []
    worker.pulse.join(20)
    assert not worker.pulse.is_alive()
    assert not worker.stop_was_asked_for


@pytest.mark.parametrize("beat_s", [NEVER_S, 0.05])
def test_an_idle_worker_announces_itself_at_once_and_at_every_beat(connection: Redis, beat_s: float) -> None:
    worker = make_worker(connection, "w", settings=SETTINGS.model_copy(update={"beat_s": beat_s}))
    wanted = 1 if beat_s == NEVER_S else 3
    seen: set[object] = set()

    def watch() -> None:
        deadline = time.monotonic() + 20
        with Redis(connection_pool=connection.connection_pool) as client:
            while len(seen) < wanted and time.monotonic() < deadline:
                seen.update(presence.last_beat_at for presence in Store(client, SETTINGS).workers())
        worker.request_stop(15, None)

    watching = beside(watch)
    worker.work()
    watching.join()
    assert len(seen) >= wanted
    assert worker.stop_was_asked_for


def test_an_idle_worker_that_is_asked_to_stop_does_not_wait_for_a_job(connection: Redis) -> None:
    worker = make_worker(connection, "w")

    def wake() -> None:  # where it does wait: with an error
        with Redis(connection_pool=connection.connection_pool) as client:
            for other in client.client_list():
                client.client_unblock(int(other["id"]), error=True)

    stop = threading.Timer(0.3, worker.request_stop, (15, None))
    late = threading.Timer(20, wake)
    for timer in (stop, late):
        timer.start()
    with pytest.raises(StopRequested):
        worker.dequeue_job_and_maintain_ttl(405)
    late.cancel()


def test_an_idle_worker_waits_for_jobs_longer_than_one_pop_and_while_redis_is_away(
    connection: Redis, proxy: CuttingProxy, line: Redis
) -> None:
    worker = make_worker(line, "w")

    def act() -> None:
        time.sleep(1.2)
        cut_for_a_while(proxy)
        submit(connection)

    acting = beside(act)
    popped = worker.dequeue_job_and_maintain_ttl(405)
    acting.join()
    assert popped is not None


def test_a_batch_outlives_an_absence_of_redis_and_spends_no_attempt(
    connection: Redis, proxy: CuttingProxy, line: Redis
) -> None:
    worker = make_worker(line, "w", tiny_model())
    job = submit(connection, num_inference_steps=200)
    first = worker._queue().pop(None)
    assert first is not None

    def act() -> None:
        while worker.reporter.session.running == [] or worker.reporter.session.running[0].step < 2:
            time.sleep(0.01)
        cut_for_a_while(proxy)

    acting = beside(act)
    worker.execute_job(first, worker._queue())
    acting.join()
    worker.session.shutdown()
    assert (fresh(job).get_status(), fresh(job).retries_left) == (RqStatus.FINISHED, SETTINGS.max_attempts - 1)
    assert attempt(worker, job) == ends(worker) == 1


def test_a_job_during_whose_admission_redis_goes_away_has_not_failed(
    connection: Redis, proxy: CuttingProxy, line: Redis
) -> None:
    job = submit(connection)
    worker = make_worker(line, "w", tiny_model())
    popped = worker._queue().pop(None)
    assert popped is not None
    proxy.swallow_the_answer_to("MGET")  # once the lease is taken: the look whether it was canceled
    with pytest.raises(ConnectionError):
        worker._admit(popped)
    worker.session.shutdown()
    assert proxy.cuts == 1 and not worker.seats
    assert (fresh(job).get_status(), fresh(job).retries_left) == (RqStatus.STARTED, SETTINGS.max_attempts - 1)
    assert (waiting(worker), ends(worker)) == ([], 0)


def test_a_session_tells_the_watchdog_of_its_boundaries(connection: Redis) -> None:
    worker = make_worker(connection, "w", tiny_model())
    submit(connection)
    assert not worker.pulse._busy()
    worker.pulse._due_at = 0.0
    job = worker._queue().pop(None)
    assert job is not None
    worker.execute_job(job, worker._queue())
    worker.session.shutdown()
    assert worker.pulse._due_at > time.monotonic()
    assert not worker.pulse._busy()


@pytest.mark.parametrize("command", ["stop-job", "stop-execution"])
def test_rqs_own_commands_cancel_the_job_that_they_name_and_no_other(connection: Redis, command: str) -> None:
    worker = make_worker(connection, "w", tiny_model())
    named, other = submit(connection), submit(connection)
    seat = begin(worker)
    begin(worker)
    assert worker.pulse._busy()
    payload = {"command": command, "job_id": named.id, "execution_id": seat.execution.id}
    worker.handle_payload({"data": json.dumps(payload).encode()})
    run(worker)
    worker.session.shutdown()
    assert [fresh(job).get_status() for job in (named, other)] == [RqStatus.STOPPED, RqStatus.FINISHED]
