"""Only deaths make a job suspect: a job that fails again and again shares batches, one that kills runs alone."""

from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs.schema import BitDepth, MetadataChoice, OutputColor
from tests.worker.batch_workers import SETTINGS, make_worker
from tests.worker.dead_workers import begun_by_the_dead, only_job, popped_by_the_dead, reclaim
from tests.worker.office import Office, named
from tests.worker.tasks import uploads
from worker.pixels.decoding import Inputs, decode_here
from worker.pixels.pictures import Picture, Pixels
from worker.queue.outcomes import deaths, is_suspect


def test_a_job_that_fails_again_and_again_neither_runs_alone_nor_keeps_others_apart(
    connection: Redis, tmp_path: Path
) -> None:
    def decode(
        inputs: Inputs, output_color: OutputColor, metadata: MetadataChoice, bit_depth: BitDepth
    ) -> tuple[Picture, Pixels]:
        if inputs["image"] == b"odd":
            raise ZeroDivisionError  # no error that is foreseen: internal_error
        return decode_here(inputs, output_color, metadata, bit_depth)

    office = Office(connection, tmp_path, partial(named, pass_s=0.02), decode=decode, seats=4, job_deadline_s=60)
    office.models.load_first()
    long = office.submit("a", steps=60)
    failing = office.submit("a", inputs=uploads() | {"image": b"odd"})
    others = [office.submit("a", steps=20) for _ in range(2)]
    office.run()
    job = office.queue.job(failing)
    problem = office.problem(failing)
    assert (job.get_status(), problem.code) == (RqStatus.FAILED, "internal_error")
    assert office.queue.store.progress(failing)["attempt"] == office.queue.settings.max_attempts
    assert [office.report(job_id).timings.batch_mean > 2.5 for job_id in others] == [True, True]
    assert office.report(long).timings.batch_mean > 1.5


def test_a_job_that_two_workers_died_with_is_suspect(connection: Redis) -> None:
    worker = reclaim(connection, begun_by_the_dead, retries_left=4)
    assert deaths(only_job(connection)) == 1 and not is_suspect(only_job(connection))
    begun_by_the_dead(make_worker(connection, "dead-too"), connection, only_job(connection))
    worker.clean_registries()
    assert deaths(only_job(connection)) == 2 and is_suspect(only_job(connection))
    assert only_job(connection).retries_left == 2 and only_job(connection).meta["mask"]


def test_a_job_that_nobody_had_begun_is_not_blamed_for_a_death(connection: Redis) -> None:
    reclaim(connection, popped_by_the_dead, retries_left=4)
    assert deaths(only_job(connection)) == 0 and only_job(connection).retries_left == 3


def test_a_record_whose_meta_is_anything_counts_no_deaths(connection: Redis) -> None:
    reclaim(connection, begun_by_the_dead, retries_left=SETTINGS.max_attempts)
    job = only_job(connection)
    odd: list[Any] = [[], "x", {"deaths": "many"}, {"deaths": None}]
    for meta in odd:
        job.meta = meta
        assert deaths(job) == 0
