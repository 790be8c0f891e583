import pytest
from redis import Redis
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.serializers import JSONSerializer

from launch.members import expire_leases_of


@pytest.fixture
def queue(connection: Redis) -> Queue:
    return Queue("inpaint", connection=connection, serializer=JSONSerializer)


def execution(queue: Queue, worker_name: str) -> Execution:
    """A job in the hands of ``worker_name``, under a lease of 300 s."""
    job = queue.create_job("some.function")
    worker = SimpleWorker([queue], name=worker_name, connection=queue.connection, serializer=JSONSerializer)
    job.worker_name = worker_name
    with queue.connection.pipeline() as pipeline:
        held = Execution.create(job, ttl=300, pipeline=pipeline, worker_name=worker.name)
        pipeline.execute()
    return held


def lease_of(held: Execution, queue: Queue) -> float | None:
    return queue.connection.zscore(queue.started_job_registry.key, held.composite_key)


def test_the_leases_of_a_dead_worker_lapse_and_those_of_the_others_stay(queue: Queue) -> None:
    dead = [execution(queue, "dead") for _ in range(3)]
    living = execution(queue, "living")
    assert expire_leases_of(queue.connection, "dead", "inpaint") == 3
    assert [lease_of(held, queue) for held in dead] == [1, 1, 1]
    assert (lease_of(living, queue) or 0) > 1_000_000


def test_a_lease_that_was_settled_meanwhile_is_not_brought_back(queue: Queue) -> None:
    settled = execution(queue, "dead")
    queue.connection.zrem(queue.started_job_registry.key, settled.composite_key)
    assert expire_leases_of(queue.connection, "dead", "inpaint") == 0
    assert lease_of(settled, queue) is None


def test_a_worker_that_held_nothing_is_no_trouble(queue: Queue) -> None:
    assert expire_leases_of(queue.connection, "unknown", "inpaint") == 0
