from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from jobs.fairness import first_overtaken, may_take
from tests.jobs.submissions import MASK, PARAMETERS, queue_with


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
    many = [queue.submit(PARAMETERS, MASK, {"image": b"i", "mask": b"m"}, caller="many").job_id for _ in range(20)]
    single = queue.submit(PARAMETERS, MASK, {"image": b"i", "mask": b"m"}, caller="single").job_id
    anonymous = queue.submit(PARAMETERS, MASK, {"image": b"i", "mask": b"m"}).job_id
    assert queue.position(many[0]) == 0
    assert queue.position(single) == 1
    assert queue.position(anonymous) == 2
    assert queue.position(many[1]) == 3
    assert queue.depth() == 22


def test_callers_without_a_key_take_turns_with_the_others_as_one(connection: Redis) -> None:
    queue = queue_with(connection)
    anonymous = [queue.submit(PARAMETERS, MASK, {"image": b"i", "mask": b"m"}).job_id for _ in range(3)]
    known = queue.submit(PARAMETERS, MASK, {"image": b"i", "mask": b"m"}, caller="known").job_id
    assert connection.lrange(queue.rq.key, 0, -1) == [
        job_id.encode() for job_id in (anonymous[0], known, *anonymous[1:])
    ]


@given(holders=st.integers(1, 40), limit=st.integers(1, 300), share=st.floats(0.05, 0.99), order=st.randoms())
def test_each_of_many_who_take_all_they_can_leaves_its_part_to_a_newcomer(
    holders: int, limit: int, share: float, order: Random
) -> None:
    held = [0] * holders
    while takers := [k for k in range(holders) if sum(held) < limit and may_take(held[k], sum(held), limit, share)]:
        held[order.choice(takers)] += 1
    assert limit - sum(held) >= limit * (1 - share) ** holders - 1 / share - 1
    assert max(held) <= share * limit + 1


def test_alone_a_caller_gets_its_share_and_with_a_share_of_1_everything() -> None:
    for share, most in ((0.5, 50), (0.9, 90), (1.0, 100)):
        own = 0
        while may_take(own, own, 100, share):
            own += 1
        assert own == most
