"""Leases in a real Redis: renewed while they are ours, never made anew, and the thread that renews them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from jobs import keys
from tests.worker.batch_workers import CATALOG, SETTINGS, begin, lose_lease, make_worker, run, submit, tiny_model
from worker.queue.leases import Heartbeat, Seat
from worker.queue.rq_worker import BatchWorker


@pytest.fixture
def worker(connection: Redis) -> Iterator[BatchWorker]:
    made = make_worker(connection, "w", tiny_model())
    yield made
    made.session.shutdown()


@pytest.fixture
def seats(connection: Redis, worker: BatchWorker) -> list[Seat]:
    """Three jobs in a worker; their leases lapse soon."""
    for seed in range(3):
        submit(connection, seed=seed)
    taken = [begin(worker) for _ in range(3)]
    for seat in taken:
        age_lease(connection, seat)
    return taken


def age_lease(connection: Redis, seat: Seat) -> None:
    connection.zadd(seat.job.started_job_registry.key, {seat.execution.composite_key: time.time() + 1}, xx=True)


def left_s(connection: Redis, seat: Seat) -> float | None:
    """Seconds until the lease lapses; None where there is none."""
    score = connection.zscore(seat.job.started_job_registry.key, seat.execution.composite_key)
    return None if score is None else score - time.time()


def nothing_more(pipeline: object) -> None:
    """No other commands go along."""


def test_a_beat_renews_every_lease_for_its_whole_length(
    connection: Redis, worker: BatchWorker, seats: list[Seat]
) -> None:
    worker.upkeep.beat()
    assert [left_s(connection, seat) for seat in seats] == [pytest.approx(SETTINGS.lease_s, abs=1.01)] * 3
    assert not any(worker.leases.is_lost(seat) for seat in seats)
    assert worker.reporter.store.workers()[0].jobs == [seat.job.id for seat in seats]


def test_a_beat_keeps_what_is_known_of_the_loaded_models(connection: Redis, worker: BatchWorker) -> None:
    worker.reporter.publish_known()
    known = keys.widths(CATALOG.model("tiny").source)
    connection.expire(known, 5)
    worker.upkeep.beat()
    assert connection.ttl(known) == pytest.approx(SETTINGS.record_ttl_s, abs=2)


def test_a_renewal_finds_the_lease_that_is_gone_and_makes_it_not_anew(
    connection: Redis, worker: BatchWorker, seats: list[Seat]
) -> None:
    lose_lease(worker, seats[1])
    assert worker.leases.renew(nothing_more) == seats
    assert [worker.leases.is_lost(seat) for seat in seats] == [False, True, False]
    assert left_s(connection, seats[1]) is None


def test_what_goes_along_with_a_renewal_does_not_shift_its_answers(worker: BatchWorker, seats: list[Seat]) -> None:
    def ask_twice(pipeline: Any) -> None:
        for _ in range(2):
            pipeline.get("nothing")

    lose_lease(worker, seats[0])
    worker.leases.renew(ask_twice)
    assert [worker.leases.is_lost(seat) for seat in seats] == [True, False, False]


def test_a_lease_that_is_asked_for_is_extended_if_it_is_held_and_not_made_anew_if_not(
    connection: Redis, worker: BatchWorker, seats: list[Seat]
) -> None:
    assert worker.leases.still_held(seats[0])
    assert left_s(connection, seats[0]) == pytest.approx(SETTINGS.lease_s, abs=1.01)
    lose_lease(worker, seats[1])
    assert not worker.leases.still_held(seats[1])
    assert left_s(connection, seats[1]) is None


def test_a_seat_that_was_given_up_is_neither_renewed_nor_remembered(worker: BatchWorker, seats: list[Seat]) -> None:
    leases = worker.leases
    for lost in seats[:2]:
        lose_lease(worker, lost)
    leases.renew(lambda _: leases.give_up(seats[0]))  # it leaves while the renewal is on its way
    leases.give_up(seats[1])
    assert not leases.is_lost(seats[0]) and not leases.is_lost(seats[1])
    assert leases.renew(nothing_more) == seats[2:]


def test_what_was_lost_stays_lost(worker: BatchWorker, seats: list[Seat]) -> None:
    leases = worker.leases
    for seat in seats[:2]:
        lose_lease(worker, seat)
        leases.renew(nothing_more)
    assert [leases.is_lost(seat) for seat in seats] == [True, True, False]


def test_a_worker_that_lost_a_lease_goes_on_with_the_others(worker: BatchWorker, seats: list[Seat]) -> None:
    lose_lease(worker, seats[1])
    worker.upkeep.beat()
    worker._boundary()
    assert list(worker.seats.values()) == [seats[0], seats[2]]
    run(worker)


def test_a_new_lease_is_as_long_as_the_setting_whatever_the_jobs_timeout(
    connection: Redis, worker: BatchWorker
) -> None:
    job = submit(connection)
    seat = begin(worker)
    assert job.timeout is not None and job.timeout > SETTINGS.lease_s
    assert left_s(connection, seat) == pytest.approx(SETTINGS.lease_s, abs=1.01)
    run(worker)


# ---- the thread


class Beats:
    """Counts beats, and says when there were enough; each one fails."""

    def __init__(self, enough: int) -> None:
        self.enough, self.count, self.reached = enough, 0, threading.Event()

    def __call__(self) -> None:
        self.count += 1
        if self.count >= self.enough:
            self.reached.set()
        raise ConnectionError("no Redis")


@pytest.mark.parametrize(("busy", "stall_s", "allowed_s"), [(True, 60.0, None), (True, 0.0, 60.0), (False, 0.0, None)])
def test_the_heart_beats_on_whatever_a_beat_raises(busy: bool, stall_s: float, allowed_s: float | None) -> None:
    """Busy and within its time, busy with a load that is allowed more, and idle; else it would end this process."""
    beats = Beats(enough=3)
    heart = Heartbeat(beats, lambda: busy, beat_s=0.01, stall_s=stall_s)
    heart.moved(allowed_s)
    heart.start()
    assert beats.reached.wait(20)
    heart.end()
    heart.join(20)
    assert not heart.is_alive()


def test_a_worker_whose_device_call_hangs_ends_itself() -> None:
    code = """
import time
from worker.queue.leases import Heartbeat
Heartbeat(beat=lambda: None, busy=lambda: True, beat_s=0.05, stall_s=0.3).start()
time.sleep(30)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, timeout=60, check=False).returncode
        == 70
    )


def test_an_idle_worker_is_not_taken_for_a_hung_one() -> None:
    code = """
import time
from worker.queue.leases import Heartbeat
Heartbeat(beat=lambda: None, busy=lambda: False, beat_s=0.05, stall_s=0.1).start()
time.sleep(1)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 0
    )
