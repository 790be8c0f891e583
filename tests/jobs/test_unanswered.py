"""A submission whose EXEC went through and was not answered: the retry finds the job that it made."""

from collections.abc import Iterator

import pytest
from redis import Redis

from jobs.connection import connect_api
from jobs.queue import Idempotency, JobQueue
from jobs.settings import QueueSettings
from tests.jobs.cutting_proxy import CuttingProxy, cutting_proxy
from tests.jobs.submissions import MASK, PARAMETERS
from tests.redis_server import RedisServer


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(redis_server.port) as made:
        yield made


@pytest.fixture
def queue(proxy: CuttingProxy) -> Iterator[JobQueue]:
    """As the API has it, over a line that can be cut."""
    with connect_api(f"redis://127.0.0.1:{proxy.port}/0") as client:
        yield JobQueue(client, QueueSettings())


@pytest.mark.parametrize("idempotency", [None, Idempotency("digest", "fingerprint")], ids=["no key", "a key"])
def test_an_unanswered_submission_makes_one_job_that_keeps_its_uploads(
    connection: Redis, queue: JobQueue, proxy: CuttingProxy, idempotency: Idempotency | None
) -> None:
    proxy.swallow_the_answer_to("EXEC")
    submitted = queue.submit(PARAMETERS, MASK, {"image": b"image", "mask": b"mask"}, idempotency, caller="a")
    assert proxy.cuts == 1
    assert not submitted.replayed
    assert connection.lrange(queue.rq.key, 0, -1) == [submitted.job_id.encode()]
    assert connection.keys("rq:job:*") == [f"rq:job:{submitted.job_id}".encode()]
    assert queue.store.inputs(submitted.job_id) == {"image": b"image", "mask": b"mask"}


def test_the_next_submission_under_an_unanswered_ones_key_is_answered_with_its_job(
    connection: Redis, queue: JobQueue, proxy: CuttingProxy
) -> None:
    proxy.swallow_the_answer_to("EXEC")
    key = Idempotency("digest", "fingerprint")
    first, second = (queue.submit(PARAMETERS, MASK, {"image": b"image", "mask": b"mask"}, key) for _ in range(2))
    assert (second.job_id, second.replayed) == (first.job_id, True)
    assert connection.llen(queue.rq.key) == 1
