"""Only deaths make a job suspect: a job that fails again and again shares batches, one that kills runs alone."""

from functools import partial
from pathlib import Path

from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs.schema import JobProblem
from tests.worker.batch_workers import SETTINGS, make_worker
from tests.worker.test_deadline import Office, named
from tests.worker.test_reclaiming import begun_by_the_dead, only_job, popped_by_the_dead, reclaim
from worker.endings import deaths


def test_a_job_that_fails_again_and_again_neither_runs_alone_nor_keeps_others_apart(
    connection: Redis, tmp_path: Path
) -> None:
    office = Office(connection, tmp_path, partial(named, pass_s=0.02), seats=4, job_deadline_s=60)
    office.models.load_first()
    long, failing = office.submit("a", steps=60), office.submit("a")
    job = office.queue.job(failing)
    job.meta["approximate"] = 5  # nobody foresees it: internal_error
    job.save_meta()
    others = [office.submit("a", steps=20) for _ in range(2)]
    office.run()
    job = office.queue.job(failing)
    problem = JobProblem.model_validate_json(job.latest_result().exc_string)  # type: ignore[union-attr]
    assert (job.get_status(), problem.code) == (RqStatus.FAILED, "internal_error")
    assert office.queue.store.progress(failing)["attempt"] == office.queue.settings.max_attempts
    assert [office.report(job_id).timings.batch_mean > 2.5 for job_id in others] == [True, True]
    assert office.report(long).timings.batch_mean > 1.5


def test_a_job_that_two_workers_died_with_is_suspect(connection: Redis) -> None:
    worker = reclaim(connection, begun_by_the_dead, retries_left=4)
    assert deaths(only_job(connection)) == 1 and not worker._suspect(only_job(connection))
    begun_by_the_dead(make_worker(connection, "dead-too"), connection, only_job(connection))
    worker.clean_registries()
    assert deaths(only_job(connection)) == 2 and worker._suspect(only_job(connection))
    assert only_job(connection).retries_left == 2 and only_job(connection).meta["mask"]


def test_a_job_that_nobody_had_begun_is_not_blamed_for_a_death(connection: Redis) -> None:
    reclaim(connection, popped_by_the_dead, retries_left=4)
    assert deaths(only_job(connection)) == 0 and only_job(connection).retries_left == 3


def test_a_record_whose_meta_is_anything_counts_no_deaths(connection: Redis) -> None:
    reclaim(connection, begun_by_the_dead, retries_left=SETTINGS.max_attempts)
    job = only_job(connection)
    for meta in ([], "x", {"deaths": "many"}, {"deaths": None}):
        job.meta = meta
        assert deaths(job) == 0
