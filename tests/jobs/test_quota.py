"""What one caller may have: exact while many submit at once, given back at every end, counted by the day."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from redis import Redis

from jobs import keys, quota
from jobs.errors import QuotaExceeded
from jobs.queue import JobQueue
from jobs.settings import QueueSettings
from tests.app.settling import Settler
from tests.jobs.submissions import submitted_by

Make = Callable[..., JobQueue]


@pytest.fixture
def make(redis_url: str, connection: Redis) -> Make:
    return lambda **limits: JobQueue(connection, QueueSettings(redis_url=redis_url, **limits))


def test_a_caller_has_no_more_unfinished_jobs_than_it_may_and_gets_them_back_as_they_end(make: Make) -> None:
    queue = make(caller_jobs=2)
    first, second = (submitted_by(queue, "a") for _ in range(2))
    settler = Settler(queue)
    settler.start(first)  # it runs, and counts
    with pytest.raises(QuotaExceeded, match="2 jobs that wait or run; at most 2"):
        submitted_by(queue, "a")
    with pytest.raises(QuotaExceeded):
        queue.check_room("a")
    submitted_by(queue, "b")
    queue.cancel(second)
    third = submitted_by(queue, "a")
    settler.succeed(first, [b"png"])
    assert submitted_by(queue, "a") != third


def test_many_submissions_at_once_come_to_the_limit_and_not_beyond(make: Make) -> None:
    queue = make(caller_jobs=5, caller_share=1)

    def one(_: int) -> int:
        try:
            submitted_by(queue, "a")
        except QuotaExceeded:
            return 0
        return 1

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(24))) == 5
    assert queue.depth() == 5


def test_a_job_that_a_worker_has_popped_and_not_yet_started_counts(make: Make, connection: Redis) -> None:
    queue = make(caller_jobs=1)
    submitted_by(queue, "a")
    connection.lmove(queue.rq.key, queue.rq.intermediate_queue_key, "RIGHT", "LEFT")
    with pytest.raises(QuotaExceeded, match="1 jobs that wait or run"):
        submitted_by(queue, "a")


def test_jobs_that_ended_unrecorded_or_vanished_are_not_counted(make: Make, connection: Redis) -> None:
    queue = make(caller_jobs=2)
    unrecorded, vanished = (submitted_by(queue, "a") for _ in range(2))
    settler = Settler(queue)
    settler.start(unrecorded)
    settler.succeed(unrecorded, [b"png"], notify=False)
    connection.delete(queue.job(vanished).key)
    assert {submitted_by(queue, "a") for _ in range(2)} == {
        member.decode() for member in cast("set[bytes]", connection.smembers(keys.unfinished_of("a")))
    }
    assert 0 < connection.ttl(keys.unfinished_of("a")) <= queue.settings.input_ttl_s


def test_megapixels_are_counted_by_the_day(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = make(caller_megapixels_per_day=3)
    now = 20_000.5 * quota.DAY_S
    monkeypatch.setattr("time.time", lambda: now)
    submitted_by(queue, "a", pixels=2_000_000)
    with pytest.raises(QuotaExceeded, match=r"1\.5 megapixels, and 2\.0 of the 3") as caught:
        submitted_by(queue, "a", pixels=1_500_000)
    assert caught.value.retry_after_s == quota.DAY_S // 2
    submitted_by(queue, "a", pixels=1_000_000)
    submitted_by(queue, "b", pixels=3_000_000)
    monkeypatch.setattr("time.time", lambda: now + quota.DAY_S)
    submitted_by(queue, "a", pixels=3_000_000)


def test_what_is_refused_or_repeated_counts_nothing(make: Make, connection: Redis) -> None:
    queue = make(caller_megapixels_per_day=3)
    for _ in range(3):
        submitted_by(queue, "a", pixels=2_000_000, key="same")
    (counted,) = connection.scan_iter("infill:pixels-of:*")
    assert int(connection.get(counted) or 0) == 2_000_000
    assert 0 < connection.ttl(counted) <= quota.DAY_S


def test_without_limits_nothing_is_asked_or_kept(make: Make, connection: Redis) -> None:
    submitted_by(make(), "a", pixels=10**12)
    assert not list(connection.scan_iter("infill:pixels-of:*")) + list(connection.scan_iter("infill:unfinished-of:*"))
