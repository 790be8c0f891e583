"""What a worker pops: each waiting job once, and nothing that does not wait."""

from typing import cast

import pytest
from redis import Redis
from rq.exceptions import DequeueTimeout
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer

from tests.worker.batch_workers import SETTINGS, submit
from worker.queue.inpaint_queue import InpaintQueue


@pytest.fixture
def queue(connection: Redis) -> InpaintQueue:
    return InpaintQueue(SETTINGS.queue_name, connection=connection, serializer=JSONSerializer)


def listed(queue: InpaintQueue) -> tuple[list[bytes], list[bytes]]:
    """Ids that wait, and those between queue and worker."""
    keys = (queue.key, queue.intermediate_queue_key)
    waiting, between = (cast("list[bytes]", queue.connection.lrange(key, 0, -1)) for key in keys)
    return waiting, between


def test_the_first_job_is_popped_and_stays_in_the_intermediate_list_until_it_is_owned(
    connection: Redis, queue: InpaintQueue
) -> None:
    first, second = submit(connection), submit(connection)
    assert queue.pop(None) == first
    assert listed(queue) == ([second.id.encode()], [first.id.encode()])


def test_an_empty_queue_has_nothing(queue: InpaintQueue) -> None:
    assert queue.pop(None) is None
    with pytest.raises(DequeueTimeout):
        queue.pop(1)


@pytest.mark.parametrize("status", [RqStatus.STARTED, RqStatus.CANCELED, RqStatus.STOPPED, RqStatus.FINISHED])
def test_an_id_whose_job_does_not_wait_is_dropped_and_the_next_one_popped(
    connection: Redis, queue: InpaintQueue, status: RqStatus
) -> None:
    stale, next_one = submit(connection), submit(connection)
    stale.set_status(status)
    assert queue.pop(None) == next_one
    assert listed(queue) == ([], [next_one.id.encode()])
    assert stale.get_status() == status


def test_a_job_that_is_put_back_is_the_next_one_again(connection: Redis, queue: InpaintQueue) -> None:
    first, second = submit(connection), submit(connection)
    popped = queue.pop(None)
    assert popped is not None
    queue.put_back(popped)
    assert listed(queue) == ([first.id.encode(), second.id.encode()], [])
    assert queue.pop(None) == first


def test_the_maintenance_lock_has_one_holder_and_outlives_a_killed_one_by_ten_seconds(
    connection: Redis, queue: InpaintQueue
) -> None:
    assert queue.acquire_maintenance_lock()
    assert not queue.acquire_maintenance_lock()
    assert 8 <= connection.ttl(queue.registry_cleaning_key) <= 10
