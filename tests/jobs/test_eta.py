"""What is foretold of waiting jobs, from their records and the workers' speeds in a real Redis."""

import pytest
from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs import keys
from jobs.errors import QueueFull
from jobs.queue import JobQueue
from tests.jobs.estimates import announce, fresh, submit, work


def eta_s(connection: Redis, job_id: str) -> float | None:
    eta_ms = fresh(connection).eta.eta_ms(job_id)
    return None if eta_ms is None else round(eta_ms / 1000, 1)


@pytest.fixture
def queue(connection: Redis) -> JobQueue:
    return fresh(connection)


def test_before_any_worker_has_run_the_model_nothing_is_foretold(queue: JobQueue, connection: Redis) -> None:
    job_id = submit(queue, work())
    assert eta_s(connection, job_id) is None
    announce(queue, models={})
    assert eta_s(connection, job_id) is None
    assert fresh(connection).retry_after_s() == 5
    assert fresh(connection).eta.cost_s() is None


def test_a_job_of_more_steps_takes_longer(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    short, long = submit(queue, work(10)), submit(queue, work(40))
    assert eta_s(connection, short) == pytest.approx(1.5, abs=0.2)
    assert eta_s(connection, long) == pytest.approx(1.5 + 4.5, abs=0.2)


def test_an_eta_falls_as_jobs_ahead_are_taken_up_canceled_and_done(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    first, second, third, last = (submit(queue, work()) for _ in range(4))
    etas = [eta_s(connection, last)]
    queue.cancel(second)
    etas.append(eta_s(connection, last))
    connection.lrem(queue.rq.key, 1, first)  # taken up by a worker, which says so
    announce(queue, left=(1.5,))
    etas.append(eta_s(connection, last))
    announce(queue, left=(0.3,))
    etas.append(eta_s(connection, last))
    connection.lrem(queue.rq.key, 1, third)
    announce(queue)
    etas.append(eta_s(connection, last))
    assert etas == pytest.approx([6.0, 4.5, 4.5, 3.3, 1.5], abs=0.2)


def test_a_job_that_comes_back_after_a_crash_counts_again(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    crashed, other = submit(queue, work()), submit(queue, work())
    connection.lrem(queue.rq.key, 1, crashed)
    assert eta_s(connection, other) == pytest.approx(1.5, abs=0.2)
    connection.lpush(queue.rq.key, crashed)
    assert eta_s(connection, other) == pytest.approx(3.0, abs=0.2)


def test_nothing_is_left_of_a_job_that_has_ended(queue: JobQueue, connection: Redis) -> None:
    job_id = submit(queue, work())
    assert connection.exists(keys.workload(job_id)) and connection.ttl(keys.workload(job_id)) > 0
    queue.cancel(job_id)
    assert not connection.exists(keys.workload(job_id))


def test_callers_who_take_turns_are_foretold_their_own_place(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    mine = [submit(queue, work(), caller="me") for _ in range(3)]
    yours = submit(queue, work(), caller="you")
    assert eta_s(connection, yours) == pytest.approx(3.0, abs=0.2)
    assert eta_s(connection, mine[2]) == pytest.approx(6.0, abs=0.2)


def test_two_workers_halve_the_wait_and_a_slow_one_lengthens_it(queue: JobQueue, connection: Redis) -> None:
    announce(queue, "one")
    ids = [submit(queue, work()) for _ in range(4)]
    assert eta_s(connection, ids[3]) == pytest.approx(6.0, abs=0.2)
    announce(queue, "two")
    assert eta_s(connection, ids[3]) == pytest.approx(3.0, abs=0.2)
    for name in ("one", "two"):
        announce(queue, name, slowdown=3.0)
    assert eta_s(connection, ids[3]) == pytest.approx(9.0, abs=0.3)


def test_a_worker_that_falls_silent_is_no_longer_counted_on(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    job_id = submit(queue, work())
    connection.delete(keys.speed("w"))  # its lease has lapsed
    assert eta_s(connection, job_id) is None
    announce(queue)
    queue.store.withdraw("w")
    assert eta_s(connection, job_id) is None


def test_a_worker_that_loads_a_model_is_not_counted_on_until_it_has(queue: JobQueue, connection: Redis) -> None:
    """How long a load takes is not known; what the jobs cost is."""
    announce(queue, loading=["other"])
    job_id = submit(queue, work())
    assert eta_s(connection, job_id) is None
    assert fresh(connection).eta.cost_s() == pytest.approx(1.5)
    announce(queue, "serving", left=(2.0,))
    assert eta_s(connection, job_id) == pytest.approx(3.5, abs=0.2)
    announce(queue)
    assert eta_s(connection, job_id) == pytest.approx(1.5, abs=0.2)


def test_behind_a_job_of_unknown_cost_nothing_is_foretold(queue: JobQueue, connection: Redis) -> None:
    """Its model has not been run yet, or an API of an earlier version took it."""
    announce(queue)
    ids = [submit(queue, asked) for asked in (work(), work(model="new"), work(), None, work())]
    assert [eta_s(connection, job_id) is None for job_id in ids] == [False, True, True, True, True]
    assert fresh(connection).eta.cost_s() is None


def test_records_of_a_later_version_are_no_error(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    job_id, strange = submit(queue, work()), submit(queue, work())
    connection.set(keys.workload(job_id), work().model_dump_json()[:-1] + ', "colour": 1}')
    connection.set(keys.workload(strange), '{"version": 2}')
    connection.sadd(keys.WORKERS, "later")
    connection.set(keys.speed("later"), '{"version": 2}')
    assert eta_s(connection, job_id) == pytest.approx(1.5, abs=0.2)
    assert eta_s(connection, strange) is None


def test_retry_after_grows_with_the_cost_of_what_waits(connection: Redis) -> None:
    told = []
    for calls in (10, 100, 1000):
        connection.flushall()
        queue = fresh(connection, queue_limit=4)
        announce(queue)
        for _ in range(4):
            submit(queue, work(calls))
        with pytest.raises(QueueFull) as refused:
            submit(fresh(connection, queue_limit=4), work())
        told.append(refused.value.retry_after_s)
    assert told == [2, 11, 60]  # the first is taken up at once, the second after it: 1.5, 10.5, 100.5 s


def test_what_waits_costs_the_sum(queue: JobQueue, connection: Redis) -> None:
    announce(queue, slowdown=2.0)
    assert fresh(connection).eta.cost_s() == 0
    for calls in (10, 20):
        submit(queue, work(calls))
    assert fresh(connection).eta.cost_s() == pytest.approx(2 * (1.5 + 2.5))


def test_a_job_that_runs_or_has_ended_does_not_wait(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    job_id = submit(queue, work())
    connection.lrem(queue.rq.key, 1, job_id)
    queue.job(job_id).set_status(RqStatus.STARTED)
    assert eta_s(connection, job_id) is None


def test_many_who_look_at_the_same_queue_ask_redis_once(queue: JobQueue, connection: Redis) -> None:
    announce(queue)
    ids = [submit(queue, work()) for _ in range(20)]
    queue.eta.eta_ms(ids[-1])
    before = connection.info("stats")["total_commands_processed"]
    etas = [queue.eta.eta_ms(job_id) for job_id in ids]
    assert connection.info("stats")["total_commands_processed"] == before + 1
    assert etas == sorted(eta for eta in etas if eta is not None)
