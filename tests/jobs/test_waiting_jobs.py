"""A burst of submissions does not read a long queue again and again, and the copy of it is never taken for the list."""

import time
import uuid

import pytest
from redis import Redis

from jobs import keys
from jobs.waiting_jobs import FRESH_S
from tests.jobs.estimates import announce, fresh, listed_ids, submit, work

LONG = 2000
ID_BYTES = 32
BURST = 30


def fill(connection: Redis, queue_key: str) -> None:
    """A queue that other processes have filled."""
    with connection.pipeline(transaction=False) as pipeline:
        for _ in range(LONG):
            job_id = uuid.uuid4().hex
            pipeline.rpush(queue_key, job_id)
            pipeline.set(keys.workload(job_id), work().model_dump_json())
            pipeline.set(keys.caller(job_id), "other")
        pipeline.execute()


def test_a_burst_reads_a_long_queue_at_most_twice_a_second_and_each_job_once(connection: Redis) -> None:
    queue = fresh(connection, queue_limit=2 * LONG, caller_share=1)
    announce(queue)
    fill(connection, queue.rq.key)
    queue.eta.eta_ms(submit(queue, work(), caller="me"))
    connection.config_resetstat()
    began = time.monotonic()
    for index in range(BURST):
        job_id = submit(queue, work(), caller=("me", "you", "other", "")[index % 4])
        assert queue.eta.eta_ms(job_id) and queue.position(job_id) is not None
        if index % 3 == 0:
            connection.lpop(queue.rq.key)  # a worker takes a job up
    looks = 1 + (time.monotonic() - began) // FRESH_S
    lists = connection.info("commandstats").get("cmdstat_lrange", {"calls": 0})["calls"]
    sent = connection.info("stats")["total_net_output_bytes"]
    assert lists <= looks
    assert sent < (looks - 1) * LONG * 2 * ID_BYTES + BURST * 6000


def test_a_burst_of_one_process_has_the_etas_and_places_that_another_computes(connection: Redis) -> None:
    queue = fresh(connection)
    announce(queue, seats=2)
    queue.eta.eta_ms(submit(queue, work(), caller="me"))
    calls = [10, 40, 20, 10, 30, 10]
    ids = [submit(queue, work(count), caller="me") for count in calls]
    other = fresh(connection)
    assert [queue.eta.eta_ms(job_id) for job_id in ids] == pytest.approx(
        [other.eta.eta_ms(job_id) for job_id in ids], abs=200
    )
    assert queue.eta.cost_s() == pytest.approx(other.eta.cost_s())


def test_a_job_that_overtakes_others_has_the_eta_that_another_process_computes(connection: Redis) -> None:
    queue = fresh(connection)
    announce(queue)
    for _ in range(3):
        queue.eta.eta_ms(submit(queue, work(), caller="me"))
    second = submit(queue, work(20), caller="you")
    assert queue.position(second) == 1
    assert queue.eta.eta_ms(second) == pytest.approx(fresh(connection).eta.eta_ms(second), abs=200)
    assert queue.eta.cost_s() == pytest.approx(fresh(connection).eta.cost_s())


def test_the_next_estimate_reads_no_workload_again(connection: Redis) -> None:
    queue = fresh(connection, queue_limit=2 * LONG)
    announce(queue)
    fill(connection, queue.rq.key)
    assert queue.eta.cost_s()
    connection.config_resetstat()
    assert queue.eta.eta_ms("gone") is None
    assert connection.info("stats")["total_net_output_bytes"] < 2 * LONG * ID_BYTES


def test_a_job_that_would_overtake_one_that_is_gone_finds_its_place_by_the_list(connection: Redis) -> None:
    """Length, head and tail of the copy fit: another process has added a job in the middle and canceled another."""
    queue, replica = fresh(connection), fresh(connection)
    first, second, third = (submit(queue, work(), caller="me") for _ in range(3))
    theirs = submit(replica, work(), caller="you")
    replica.cancel(second)
    mine = submit(queue, work(), caller="new")
    assert listed_ids(queue) == [first, theirs, mine, third]


@pytest.mark.parametrize(
    "change",
    ["pop", "pop and push back", "cancel", "cancel elsewhere", "cancel and add elsewhere", "add elsewhere", "empty"],
)
def test_what_changes_the_list_is_seen_at_once(connection: Redis, change: str) -> None:
    queue, replica = fresh(connection), fresh(connection)
    ids = [submit(queue, work(), caller="me") for _ in range(4)]
    if change.startswith("pop"):
        connection.lpop(queue.rq.key)
    if change == "pop and push back":
        connection.lpop(queue.rq.key)
        connection.lpush(queue.rq.key, ids[0])
    if change.startswith("cancel"):
        (replica if "elsewhere" in change else queue).cancel(ids[1])
    if "add elsewhere" in change:
        submit(replica, work(), caller="you" if change == "add elsewhere" else "me")
    if change == "empty":
        connection.delete(queue.rq.key)
    listed = listed_ids(queue)
    assert list(queue.waiting.ids()) == listed
    assert queue.waiting.jobs(listed) == fresh(connection).waiting.jobs(listed)
