from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from jobs.fairness import first_overtaken
from tests.jobs.test_queue import MASK, PARAMETERS, queue_with


def queued(arrivals: Sequence[str]) -> list[str]:
    """The queue after these callers' jobs arrived one after another and none was taken."""
    waiting: list[str] = []
    for caller in arrivals:
        index = first_overtaken(waiting, caller)
        waiting.insert(len(waiting) if index is None else index, caller)
    return waiting


def test_one_caller_alone_is_served_in_order() -> None:
    assert first_overtaken(["a"] * 5, "a") is None


def test_a_single_job_waits_behind_one_job_of_a_caller_with_many() -> None:
    assert first_overtaken(["a"] * 200, "b") == 1


def test_callers_take_turns() -> None:
    assert "".join(queued("aaaabbbbcc")) == "abcabcabab"


@given(st.lists(st.sampled_from("abcd"), max_size=40))
def test_no_job_waits_behind_another_callers_later_turn(arrivals: list[str]) -> None:
    waiting = queued(arrivals)
    turns = [waiting[:index].count(caller) for index, caller in enumerate(waiting)]
    assert turns == sorted(turns)


def test_the_queue_in_redis_is_fair_by_caller(connection: Redis) -> None:
    queue = queue_with(connection)
    many = [queue.submit(PARAMETERS, MASK, b"i", b"m", caller="many").job_id for _ in range(20)]
    single = queue.submit(PARAMETERS, MASK, b"i", b"m", caller="single").job_id
    anonymous = queue.submit(PARAMETERS, MASK, b"i", b"m").job_id
    assert queue.position(many[0]) == 0
    assert queue.position(single) == 1
    assert queue.position(anonymous) == 2
    assert queue.position(many[1]) == 3
    assert queue.depth() == 22


def test_callers_without_a_key_take_turns_with_the_others_as_one(connection: Redis) -> None:
    queue = queue_with(connection)
    anonymous = [queue.submit(PARAMETERS, MASK, b"i", b"m").job_id for _ in range(3)]
    known = queue.submit(PARAMETERS, MASK, b"i", b"m", caller="known").job_id
    assert connection.lrange(queue.rq.key, 0, -1) == [
        job_id.encode() for job_id in (anonymous[0], known, *anonymous[1:])
    ]
