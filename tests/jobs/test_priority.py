"""Jobs of low priority wait behind all others, and take nothing that others would have had."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from jobs import keys
from jobs.errors import JobError, QueueFull, QuotaExceeded, StoreFull, TooLarge
from jobs.fairness import QueuedJob, overtaken_by
from jobs.schema import Priority
from tests.jobs.estimates import announce, fresh, listed_ids, submit, work
from tests.jobs.submissions import MASK, PARAMETERS, queue_with

MB = 10**6
Arrivals = st.lists(st.builds(QueuedJob, st.sampled_from("abc"), st.sampled_from(["normal", "low"])), max_size=40)


@given(Arrivals)
def test_all_of_low_priority_stand_behind_all_others_and_callers_take_turns_among_each(
    arrivals: list[QueuedJob],
) -> None:
    queue: list[QueuedJob] = []
    for job in arrivals:
        index = overtaken_by(queue, job)
        queue.insert(len(queue) if index is None else index, job)
    assert [job.priority for job in queue] == sorted((job.priority for job in queue), reverse=True)
    for priority in ("normal", "low"):
        callers = [job.caller for job in queue if job.priority == priority]
        turns = [callers[:index].count(caller) for index, caller in enumerate(callers)]
        assert turns == sorted(turns)


def test_the_queue_in_redis_has_them_at_its_end(connection: Redis) -> None:
    queue, replica = fresh(connection), fresh(connection)
    low = [submit(queue, work(), "many", "low") for _ in range(3)]
    normal = [submit(replica, work(), "many") for _ in range(2)]
    other = submit(queue, work(), "other", "low")
    other_normal = submit(queue, work(), "other")
    assert listed_ids(queue) == [normal[0], other_normal, normal[1], low[0], other, *low[1:]]
    assert queue.position(low[0]) == 3
    assert [each.low_priority_depth() for each in (queue, replica, fresh(connection))] == [4, 4, 4]
    assert queue.depth() == 7


@pytest.mark.parametrize(("full", "free"), [("low", "normal"), ("normal", "low")])
def test_a_queue_that_is_full_of_one_priority_takes_jobs_of_the_other(
    connection: Redis, full: Priority, free: Priority
) -> None:
    queue = queue_with(connection, queue_limit=6, low_priority_share=0.5)
    for _ in range({"low": 3, "normal": 6}[full]):
        submit(queue, None, "", full)
    with pytest.raises(QueueFull, match=r"3 jobs of low priority wait.*at most 3" if full == "low" else r"6 jobs wait"):
        submit(fresh(connection, queue_limit=6), None, "", full)
    with pytest.raises(QueueFull):
        queue.check_room(priority=full)
    queue.check_room(priority=free)
    submit(fresh(connection, queue_limit=6), None, "", free)


def test_one_caller_leaves_places_of_low_priority_to_others(connection: Redis) -> None:
    queue = queue_with(connection, queue_limit=20, low_priority_share=0.5, caller_share=0.5)
    for _ in range(5):
        submit(queue, None, "many", "low")
    with pytest.raises(QueueFull, match="5 of them yours; of 10 places"):
        submit(queue, None, "many", "low")
    submit(queue, None, "other", "low")
    for _ in range(10):
        submit(queue, None, "many")


def test_the_bounds_are_exact_under_concurrent_submitters(connection: Redis) -> None:
    def one(number: int) -> Priority | None:
        priority: Priority = "low" if number % 2 else "normal"
        try:
            submit(queues[number % 4], None, "", priority)
        except JobError:
            return None
        except QueueFull:
            return None
        return priority

    queues = [queue_with(connection, queue_limit=12, low_priority_share=0.5) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(one, range(60)))
    assert (accepted.count("normal"), accepted.count("low")) == (12, 6)
    assert queues[0].low_priority_depth() == 6 and queues[0].depth() == 18


def test_the_bound_is_exact_where_another_process_has_changed_the_middle(connection: Redis) -> None:
    """Length, head and tail are as they were: one of low priority was canceled, and one of normal has come."""
    queue, replica = (queue_with(connection, queue_limit=4, low_priority_share=0.5) for _ in range(2))
    first = submit(queue, None)
    canceled = submit(queue, None, "", "low")
    submit(queue, None, "", "low")
    replica.cancel(canceled)
    submit(replica, None)
    last = submit(queue, None, "", "low")
    assert listed_ids(queue)[0] == first and listed_ids(queue)[-1] == last
    with pytest.raises(QueueFull, match="low priority"):
        submit(queue, None, "", "low")


def test_they_leave_a_part_of_the_memory_to_others(connection: Redis) -> None:
    connection.config_set("maxmemory", 100 * MB)
    queue = queue_with(connection, memory_share=1, low_priority_share=0.5)

    def one(priority: Priority, megabytes: int) -> str:
        size = megabytes * MB
        inputs = {"image": b"image", "mask": b"mask"}
        return queue.submit(PARAMETERS, MASK, inputs, result_bytes=size, priority=priority).job_id  # type: ignore[arg-type]

    try:
        with pytest.raises(TooLarge, match="for jobs of low priority"):
            one("low", 60)
        low = one("low", 30)
        with pytest.raises(StoreFull):
            one("low", 30)
        one("normal", 60)
        queue.cancel(low)
    finally:
        connection.config_set("maxmemory", 0)


def test_they_count_among_a_callers_unfinished_jobs_and_its_pixels(connection: Redis) -> None:
    queue = queue_with(connection, caller_jobs=2)
    submit(queue, None, "a", "low")
    submit(queue, None, "a")
    with pytest.raises(QuotaExceeded):
        submit(queue, None, "a", "low")


def test_the_eta_of_a_job_counts_no_job_of_low_priority_behind_it(connection: Redis) -> None:
    queue = fresh(connection)
    announce(queue)
    low = [submit(queue, work(), "", "low") for _ in range(2)]
    queue.eta.eta_ms(low[-1])
    ids = [submit(queue, work()) for _ in range(3)]
    for each in (queue, fresh(connection)):  # by the estimate that was added to, and by one made anew
        etas = [each.eta.eta_ms(job_id) for job_id in ids]
        assert etas == pytest.approx([1500, 3000, 4500], abs=300)
    assert [fresh(connection).eta.eta_ms(job_id) for job_id in low] == pytest.approx([6000, 7500], abs=300)
    assert queue.eta.cost_s() == pytest.approx(7.5)


def test_a_job_that_overtakes_one_of_unknown_cost_has_an_eta(connection: Redis) -> None:
    queue = fresh(connection)
    announce(queue)
    unknown = submit(queue, None, "", "low")
    assert queue.eta.eta_ms(unknown) is None
    assert queue.eta.eta_ms(submit(queue, work())) == pytest.approx(1500, abs=300)


def test_retry_after_is_of_the_jobs_of_its_priority(connection: Redis) -> None:
    queue = fresh(connection)
    announce(queue)
    for _ in range(4):
        submit(queue, work(40), "", "low")
        submit(queue, work(10))
    assert fresh(connection).retry_after_s() == 2
    assert fresh(connection).retry_after_s("low") == 11


def test_nothing_is_left_of_its_priority_when_it_has_ended(connection: Redis) -> None:
    queue = fresh(connection)
    job_id = submit(queue, None, "", "low")
    assert connection.ttl(keys.priority(job_id)) > 0
    queue.cancel(job_id)
    assert not connection.exists(keys.priority(job_id))
