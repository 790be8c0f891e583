"""Results that find no room in Redis, and ends that it refuses: real Redis, a tiny network, the worker in this thread.

What happens meanwhile is done by the network, between two of its passes.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs import keys
from jobs.schema import InputName
from tests.factories import encoded, inpaint_parameters, noise
from tests.worker.office import MASK, Office, named
from worker.families.base import Family

LARGE, SMALL = (1100, 1000), (90, 80)
LARGE_BYTES = 3_000_000


def photo_and_mask(size: tuple[int, int]) -> dict[InputName, bytes]:
    """Noise, so that the result is as large as its pixels."""
    hole = Image.new("L", size)
    hole.paste(255, (30, 20, 60, 50))
    photo = Image.fromarray(noise((size[1], size[0], 3), seed=7))
    return {"image": encoded(photo, "JPEG", quality=5), "mask": encoded(hole)}


def submit(office: Office, size: tuple[int, int], steps: int, **asked: Any) -> str:
    parameters = inpaint_parameters(model="a", num_inference_steps=steps, **asked)
    submitted = office.queue.submit(parameters, MASK, photo_and_mask(size))
    return submitted.job_id


class Between:
    """A network that calls ``look`` before each of its passes."""

    def __init__(self, network: Any, look: Callable[[], None]) -> None:
        self.network, self.look = network, look

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.look()
        return self.network(*args, **kwargs)


def looking(look: Callable[[], None], name: str) -> Family:
    family = named(name, pass_s=0.02)
    family.network = Between(family.network, look)
    return family


def leave_room(connection: Redis, size_bytes: int) -> None:
    connection.config_set("maxmemory", connection.info("memory")["used_memory"] + size_bytes)


def test_a_result_without_room_is_kept_while_other_jobs_go_on_and_is_written_once_there_is_room(
    connection: Redis, tmp_path: Path
) -> None:
    seen: list[RqStatus | None] = []

    def look() -> None:
        """The second small job runs while the large result waits; then there is room."""
        if office.queue.job(first).get_status() == RqStatus.FINISHED and not seen:
            seen.append(office.queue.job(large).get_status())
            connection.config_set("maxmemory", 0)

    office = Office(connection, tmp_path, partial(looking, look), seats=4, job_deadline_s=60)
    office.models.load_first()
    large, first = submit(office, LARGE, 1), submit(office, SMALL, 20)
    last = submit(office, SMALL, 60)
    leave_room(connection, LARGE_BYTES // 2)
    office.run()
    assert seen == [RqStatus.STARTED]
    for job_id in (large, first, last):
        office.report(job_id)
        assert connection.exists(keys.result(job_id, 0)) and connection.hlen(keys.RESERVED) == 0
        assert office.queue.store.progress(job_id)["attempt"] == 1


def test_a_result_that_finds_no_room_for_too_long_fails_its_job_at_its_first_attempt(
    connection: Redis, tmp_path: Path
) -> None:
    office = Office(connection, tmp_path, named, result_patience_s=1, job_deadline_s=60)
    large, small = submit(office, LARGE, 1), submit(office, SMALL, 1)
    leave_room(connection, LARGE_BYTES // 2)
    office.run()
    job = office.queue.job(large)
    problem = office.problem(large)
    assert (job.get_status(), problem.code) == (RqStatus.FAILED, "store_full")
    assert office.queue.store.progress(large)["attempt"] == 1 and connection.hlen(keys.RESERVED) == 0
    assert not connection.keys("infill:*:image") and not connection.exists(keys.result(large, 0))
    assert office.report(small)
    assert office.worker.reporter.metrics.registry.get_sample_value(
        "infill_jobs_ended_total", {"outcome": "store_full"}
    )


def test_a_kept_result_whose_job_is_canceled_goes_at_once(connection: Redis, tmp_path: Path) -> None:
    def look() -> None:
        if any(seat.kept_since for seat in office.worker.seats.values()):
            office.queue.cancel(large)

    office = Office(connection, tmp_path, partial(looking, look), seats=4, job_deadline_s=60)
    office.models.load_first()
    large, small = submit(office, LARGE, 1), submit(office, SMALL, 40)
    leave_room(connection, LARGE_BYTES // 2)
    office.run()
    assert office.queue.job(large).get_status() == RqStatus.STOPPED
    assert office.report(small)


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_an_end_that_redis_refuses_is_written_later_and_the_job_runs_once(
    connection: Redis, tmp_path: Path, outcome: str
) -> None:
    """Not even a small write is taken, from the job's first pass to the end of the other's."""
    refused: list[int] = []

    def look() -> None:
        refused.append(connection.info("errorstats").get("errorstat_OOM", {}).get("count", 0))
        connection.config_set("maxmemory", 1 if len(refused) < 12 else 0)

    office = Office(connection, tmp_path, partial(looking, look), seats=4, job_deadline_s=60)
    office.models.load_first()
    connection.config_resetstat()
    scheduler = {} if outcome == "success" else {"scheduler": "flow_euler"}
    short, other = submit(office, SMALL, 2, **scheduler), submit(office, SMALL, 12)
    office.run()
    assert refused[-1] > 0
    assert office.report(other) and office.queue.store.progress(short)["attempt"] == 1
    if outcome == "success":
        assert office.report(short)
    else:
        assert office.queue.job(short).get_status() == RqStatus.FAILED
    assert connection.zcard(office.worker._queue().started_job_registry.key) == 0
    assert connection.hlen(keys.RESERVED) == 0
