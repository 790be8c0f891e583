"""What is sent out at a job's end: signed, retried, by whichever worker lives; and that it is seen in the job."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import cast

import pytest
from pydantic import SecretStr
from redis import Redis
from standardwebhooks import Webhook

from jobs import deliveries, keys
from jobs.addresses import Answer
from jobs.deliveries import CLAIM_S, RETRIES_S, Delivery, Due
from jobs.job_view import JobView, view_job
from jobs.queue import JobQueue
from jobs.schema import InputName, JobProblem
from jobs.settings import QueueSettings
from tests.app.settling import Settler
from tests.jobs.submissions import MASK, PARAMETERS
from tests.receiver import Receiver, receiver
from worker.metrics import WorkerMetrics
from worker.queue.deliverer import BUSY_MOST_S, Deliverer

SECRET = "whsec_" + "c2VjcmV0" * 4
INPUTS: dict[InputName, bytes] = {"image": b"image", "mask": b"mask"}


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture
def queue(redis_url: str, connection: Redis) -> JobQueue:
    settings = QueueSettings(
        redis_url=redis_url, output_hosts="127.0.0.1", webhook_secret=SecretStr(SECRET), queue_name="out"
    )
    return JobQueue(connection, settings)


@pytest.fixture
def deliverer(queue: JobQueue) -> Iterator[Deliverer]:
    made = Deliverer(queue, WorkerMetrics())
    yield made
    made.stop()


def submit(queue: JobQueue, *asked: Delivery) -> str:
    return queue.submit(PARAMETERS, MASK, INPUTS, deliveries=asked).job_id


def webhook(there: Receiver) -> Delivery:
    return Delivery(kind="webhook", url=f"{there.url}/hook?token=secret")


def output(there: Receiver, index: int = 0) -> Delivery:
    return Delivery(kind="output", url=f"{there.url}/put{index}?signature=secret", index=index)


def pass_time(connection: Redis, seconds: float) -> None:
    for member in cast("list[bytes]", connection.zrange(keys.DELIVERIES, 0, -1)):
        connection.zincrby(keys.DELIVERIES, -seconds, member)


def deliver(deliverer: Deliverer) -> int:
    """Try all that is due; returns how many these were."""
    due = deliverer.deliveries.due(20)
    for one in due:
        deliverer.deliver(one)
    return len(due)


def states(queue: JobQueue, job_id: str) -> list[tuple[str, int, str | None]]:
    return [(report.state, report.attempts, report.error) for report in view_job(queue, job_id).deliveries]


def test_nothing_is_sent_before_the_end_and_all_of_it_then(
    queue: JobQueue, deliverer: Deliverer, there: Receiver
) -> None:
    job_id = submit(queue, output(there), webhook(there))
    assert deliver(deliverer) == 0 and states(queue, job_id) == [("pending", 0, None)] * 2
    settler = Settler(queue)
    settler.start(job_id)
    settler.succeed(job_id, [b"the picture"])
    assert deliver(deliverer) == 2 and deliver(deliverer) == 0
    put, post = there.received
    assert (put.method, put.path, put.body) == ("PUT", "/put0?signature=secret", b"the picture")
    assert put.headers["Content-Type"] == "image/png"
    event = Webhook(SECRET).verify(post.body, post.headers)
    assert (event["type"], event["data"]["id"]) == ("job.succeeded", job_id)
    assert states(queue, job_id) == [("delivered", 1, None)] * 2
    shown = view_job(queue, job_id).model_dump_json()
    assert "127.0.0.1" in shown and "secret" not in shown
    assert not queue.connection.exists(keys.DELIVERIES)


@pytest.mark.parametrize("end", ["failed", "canceled", "crashed"])
def test_every_end_is_announced(queue: JobQueue, deliverer: Deliverer, there: Receiver, end: str) -> None:
    job_id = submit(queue, output(there), webhook(there))
    settler = Settler(queue)
    if end == "canceled":
        queue.cancel(job_id)
    else:
        settler.start(job_id)
        settler.fail(job_id, JobProblem(code="x", message="No.")) if end == "failed" else settler.crash(job_id)
    assert deliver(deliverer) == 2
    (post,) = there.received
    assert json.loads(post.body)["type"] == ("job.canceled" if end == "canceled" else "job.failed")
    assert states(queue, job_id) == [("failed", 1, "The job has no such image."), ("delivered", 1, None)]


def test_an_end_that_nobody_announced_is_found(queue: JobQueue, deliverer: Deliverer, there: Receiver) -> None:
    job_id = submit(queue, webhook(there))
    settler = Settler(queue)
    settler.start(job_id)
    pass_time(queue.connection, deliveries.LOOK_AGAIN_S)
    assert deliver(deliverer) == 1 and not there.received  # it runs still
    settler.succeed(job_id, [b"x"], notify=False)
    assert deliver(deliverer) == 0
    pass_time(queue.connection, deliveries.LOOK_AGAIN_S)
    assert deliver(deliverer) == 1 and len(there.received) == 1


def test_a_webhook_is_tried_again_with_pauses_under_one_id_and_given_up_at_last(
    queue: JobQueue, deliverer: Deliverer, there: Receiver
) -> None:
    there.statuses = [500]
    job_id = submit(queue, webhook(there))
    queue.cancel(job_id)
    for attempt, pause_s in enumerate(RETRIES_S, 1):
        assert deliver(deliverer) == 1 and deliver(deliverer) == 0
        assert states(queue, job_id) == [("pending", attempt, "The address answered 500.")]
        pass_time(queue.connection, pause_s - 1)
        assert deliver(deliverer) == 0
        pass_time(queue.connection, 1)
    assert deliver(deliverer) == 1
    assert states(queue, job_id) == [("failed", len(RETRIES_S) + 1, "The address answered 500.")]
    pass_time(queue.connection, 10**6)
    assert deliver(deliverer) == 0
    assert len({sent.headers["webhook-id"] for sent in there.received}) == 1
    assert len(there.received) == len(RETRIES_S) + 1


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        ("webhook", 204, "delivered"),
        ("webhook", 302, "pending"),
        ("webhook", 404, "pending"),
        ("webhook", 410, "failed"),
        ("output", 201, "delivered"),
        ("output", 302, "failed"),
        ("output", 403, "failed"),
        ("output", 429, "pending"),
        ("output", 503, "pending"),
    ],
)
def test_what_an_answer_means(
    queue: JobQueue, deliverer: Deliverer, there: Receiver, kind: str, status: int, state: str
) -> None:
    there.statuses = [status]
    job_id = submit(queue, webhook(there) if kind == "webhook" else output(there))
    settler = Settler(queue)
    settler.start(job_id)
    settler.succeed(job_id, [b"x"])
    deliver(deliverer)
    assert states(queue, job_id)[0][0] == state


def test_a_worker_that_dies_leaves_it_to_another(queue: JobQueue, deliverer: Deliverer, there: Receiver) -> None:
    job_id = submit(queue, webhook(there))
    queue.cancel(job_id)
    assert queue.deliveries.due(5) == [Due(job_id, 0)]  # claimed, and the worker is gone
    assert deliver(deliverer) == 0
    pass_time(queue.connection, CLAIM_S)
    assert deliver(deliverer) == 1 and len(there.received) == 1


def test_a_result_that_has_expired_and_a_host_that_is_not_allowed_are_said(
    queue: JobQueue, deliverer: Deliverer, there: Receiver, connection: Redis
) -> None:
    elsewhere = Delivery(kind="webhook", url="https://elsewhere.example/")
    job_id = submit(queue, output(there), elsewhere)
    settler = Settler(queue)
    settler.start(job_id)
    settler.succeed(job_id, [b"x"])
    connection.delete(keys.result(job_id, 0))
    deliver(deliverer)
    assert [error for _, _, error in states(queue, job_id)] == [
        "The result has expired.",
        "webhook_url: this service calls no address at 'elsewhere.example'.",
    ]


def test_a_job_that_is_gone_is_forgotten(queue: JobQueue, deliverer: Deliverer, there: Receiver) -> None:
    job_id = submit(queue, webhook(there))
    queue.cancel(job_id)
    queue.connection.delete(f"rq:job:{job_id}")
    assert deliver(deliverer) == 1
    assert not queue.connection.exists(keys.DELIVERIES) and not there.received


def test_a_slow_host_does_not_hold_up_others(queue: JobQueue, deliverer: Deliverer, there: Receiver) -> None:
    jobs = [submit(queue, webhook(there)) for _ in range(3)]
    for job_id in jobs:
        queue.cancel(job_id)
    assert [deliverer._enter("127.0.0.1") for _ in range(2)] == [None, None]  # two are under way
    assert deliver(deliverer) == 3 and not there.received
    deliverer._leave("127.0.0.1")
    pass_time(queue.connection, 2)
    assert deliver(deliverer) == 3 and len(there.received) == 3


def test_many_that_wait_for_a_slow_host_are_looked_at_less_and_less_often(deliverer: Deliverer) -> None:
    assert [deliverer._enter("slow.example") for _ in range(2)] == [None, None]
    waits = [deliverer._enter("slow.example") or 0 for _ in range(3000)]
    assert waits == sorted(waits) and waits[0] < 2 and waits[-1] == BUSY_MOST_S
    deliverer._leave("slow.example")  # one has ended: the others may follow
    assert [deliverer._enter("slow.example"), deliverer._enter("slow.example")] == [None, pytest.approx(waits[0])]


class Faulty(Deliverer):
    """With an error in it that nobody has thought of."""

    def _webhook(self, delivery: Delivery, view: JobView) -> Answer:
        raise ValueError("not foreseen")


def test_an_error_that_nobody_expected_is_tried_again_but_not_for_ever(queue: JobQueue, there: Receiver) -> None:
    deliverer = Faulty(queue, WorkerMetrics())
    job_id = submit(queue, webhook(there))
    queue.cancel(job_id)
    for number, pause_s in enumerate((*RETRIES_S, 0), 1):
        assert deliver(deliverer) == 1
        pass_time(queue.connection, pause_s + 1)
        state = "pending" if pause_s else "failed"
        assert states(queue, job_id) == [(state, number, "It failed inside this service.")]
    assert deliver(deliverer) == 0
    deliverer.stop()


def test_its_own_threads_deliver_and_stop(queue: JobQueue, deliverer: Deliverer, there: Receiver) -> None:
    deliverer.start()
    for _ in range(6):
        queue.cancel(submit(queue, webhook(there)))
    there.wait(6)
    deliverer.stop()
    deliverer._thread.join(5)
    assert not deliverer._thread.is_alive()
    assert datetime.now(UTC).timestamp() - int(there.received[0].headers["webhook-timestamp"]) < 60
