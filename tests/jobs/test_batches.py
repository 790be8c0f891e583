"""What is written of a batch may be written twice, and each write says whether another process was faster."""

import time

import pytest
from redis import Redis

from jobs import keys
from jobs.batches import Batch, Batches, BatchJob, BatchRecord, LineOutcome
from jobs.errors import BatchNotFound, QuotaExceeded
from jobs.settings import QueueSettings
from jobs.store import Store

CHUNKS = [b"0\n1", b"2\n3\n4", b"5"]
JOBS = [BatchJob(custom_id=f"l{number}", job_id=f"job-{number}") for number in range(6)]
DONE = LineOutcome(custom_id="l0", status="succeeded")


@pytest.fixture
def batches(connection: Redis) -> Batches:
    return Batches(Store(connection, QueueSettings()), batch_ttl_s=3600, most_of_caller=2)


def made(batches: Batches, batch_id: str = "batch_a") -> Batch:
    for number, chunk in enumerate(CHUNKS):
        batches.put_chunk(f"lines-{batch_id}", number, chunk)
    now = time.time()
    record = BatchRecord(
        id=batch_id,
        owner="a",
        created_at=now,
        expires_at=now + 3600,
        total=6,
        upload=f"lines-{batch_id}",
        chunks=[0, 2, 5],
        fingerprint="f",
    )
    batch = batches.create(record, listed=True)
    assert batch
    return batch


def chunks_left(batches: Batches, batch: Batch) -> list[int]:
    return [number for number in range(len(CHUNKS)) if batches.lines(batch.record, number) is not None]


def test_a_chunk_goes_with_its_last_line_and_no_earlier(batches: Batches) -> None:
    batch = made(batches)
    left = []
    for number in range(6):
        left.append(chunks_left(batches, batch))
        assert batches.advance(batch, number, [JOBS[number]])
    assert left == [[0, 1, 2], [0, 1, 2], [1, 2], [1, 2], [1, 2], [2]]
    assert chunks_left(batches, batch) == []


def test_several_lines_at_once_move_the_cursor_by_as_many(batches: Batches) -> None:
    batch = made(batches)
    assert batches.advance(batch, 0, [*JOBS[:2], LineOutcome(custom_id="l2", status="failed"), *JOBS[3:5]])
    assert batches.find(batch.id).fed == 5 and chunks_left(batches, batch) == [2]
    assert [*batches.jobs(batch.id)] == [0, 1, 3, 4] and batches.counts(batch.id)["failed"] == 1


def test_a_process_that_is_behind_writes_nothing(batches: Batches, connection: Redis) -> None:
    batch = made(batches)
    assert batches.advance(batch, 0, JOBS[:3])
    other = BatchJob(custom_id="l0", job_id="another")
    assert not batches.advance(batch, 0, [other]) and not batches.advance(batch, 5, [other])
    assert batches.jobs(batch.id)[0] == JOBS[0] and batches.find(batch.id).fed == 3
    connection.delete(keys.batch(batch.id))
    assert not batches.advance(batch, 3, [other])


def test_a_line_that_ends_twice_counts_once_and_is_at_work_no_more(batches: Batches) -> None:
    batch = made(batches)
    batches.advance(batch, 0, JOBS[:2])
    for _ in range(2):
        batches.end(batch.id, {0: DONE})
    assert batches.counts(batch.id) == {"succeeded": 1, "failed": 0, "canceled": 0, "expired": 0}
    assert [*batches.jobs(batch.id)] == [1] and batches.outcomes(batch.id, 0, 6) == [DONE]


def test_a_batch_that_has_ended_is_not_canceled(batches: Batches) -> None:
    batch = made(batches)
    batches.finish(batch, "completed")
    assert batches.cancel(batch.id).state == "completed" and batches.unfinished() == []
    assert batches.find(batch.id).ended_at
    with pytest.raises(BatchNotFound):
        batches.cancel("batch_b")


def test_a_batch_that_is_canceled_as_it_is_to_be_completed_is_canceled(batches: Batches) -> None:
    batch = made(batches)
    canceling = batches.cancel(batch.id)
    assert canceling.state == "canceling" and canceling.closes_as == "canceled"
    batches.finish(batch, "completed")
    assert batches.unfinished() == [batch.id] and batches.find(batch.id).state == "canceling"
    batches.finish(canceling, "canceled")
    assert batches.find(batch.id).state == "canceled"


def test_lines_without_a_record_go_soon_and_with_one_they_stay_as_long_as_it(
    batches: Batches, connection: Redis
) -> None:
    batches.put_chunk("lines-x", 0, b"0")
    assert connection.ttl(keys.picture("lines-x", "lines:0")) <= 600
    batch = made(batches)
    assert connection.ttl(keys.picture(batch.record.upload, "lines:0")) > 3600


def test_a_batch_whose_record_is_gone_counts_no_more_for_its_caller(batches: Batches, connection: Redis) -> None:
    made(batches), made(batches, "batch_b")
    with pytest.raises(QuotaExceeded, match="You have 2 batches"):
        made(batches, "batch_c")
    connection.delete(keys.batch("batch_a"))
    made(batches, "batch_c")
