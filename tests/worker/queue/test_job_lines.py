"""``job_ended``: one line for each job that a worker ends, whatever the end."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from jobs.errors import DeadlineExceeded
from jobs.logs import JsonLines
from jobs.schema import JobReport
from tests.worker.batch_workers import begin, fresh, lose_lease, make_worker, run, submit, tiny_model
from worker.queue.rq_worker import BatchWorker

HOSTILE = "id\nsecond line"


@pytest.fixture
def worker(connection: Redis) -> Iterator[BatchWorker]:
    made = make_worker(connection, "w", tiny_model())
    yield made
    made.session.shutdown()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """Of ``job_ended``, as they are written; filled when the test reads them after its jobs."""
    caplog.set_level(logging.INFO, logger="worker.jobs")
    found: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(JsonLines().format(record)))

    handler = Kept()
    logging.getLogger("worker.jobs").addHandler(handler)
    yield found
    logging.getLogger("worker.jobs").removeHandler(handler)


def test_a_job_that_succeeds_has_a_line_with_model_sizes_steps_and_times(
    connection: Redis, worker: BatchWorker, lines: list[dict[str, Any]]
) -> None:
    job = submit(connection, n=2, prompt="a secret prompt")
    job.meta["request_id"] = HOSTILE
    job.save_meta()
    begin(worker)
    run(worker)
    (line,) = lines
    assert {
        "event": "job_ended",
        "job_id": job.id,
        "request_id": HOSTILE,
        "outcome": "succeeded",
    }.items() <= line.items()
    assert (line["model"], line["n"], line["steps"]) == ("tiny", 2, 3)
    report = JobReport.model_validate(fresh(job).return_value()).model_dump()
    assert line["size"] == "{width}x{height}".format(**report["images"][0])
    assert line["run_size"].count("x") == 1 and line["batch_mean"] == 2
    times = dict(line["timings"])
    assert times == {name: report["timings"][name] for name in times} and times["total"] > 0
    assert "secret" not in json.dumps(line)


def test_other_ends_have_one_line_each_too(connection: Redis, worker: BatchWorker, lines: list[dict[str, Any]]) -> None:
    unread = submit(connection, image=b"no picture")
    begin(worker)
    run(worker)
    canceled = submit(connection)
    begin(worker)
    worker.reporter.flag_cancel(canceled.id)
    run(worker)
    overdue = submit(connection)
    begin(worker).fail(DeadlineExceeded("It ran too long."))
    run(worker)
    dead = submit(connection, retries_left=0)
    worker.outcomes._count_death(dead)
    worker.outcomes.record_crashes()
    assert [(line["job_id"], line["outcome"], line["model"]) for line in lines] == [
        (unread.id, "undecodable_job", "tiny"),
        (canceled.id, "canceled", "tiny"),
        (overdue.id, "deadline_exceeded", "tiny"),
        (dead.id, "crashed", "tiny"),
    ]


def test_a_job_that_goes_on_elsewhere_has_no_line(
    connection: Redis, worker: BatchWorker, lines: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    submit(connection)
    lose_lease(worker, begin(worker))
    run(worker)
    again = submit(connection)
    worker.outcomes._count_death(again)
    assert lines == []
    assert f"job {again.id} has lost its worker: it is tried again" in caplog.text
