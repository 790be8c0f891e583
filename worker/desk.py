"""What surrounds a job in this worker: its task, bytes, progress and report, and word that the worker lives."""

import time
from typing import Any

from rq.job import Job
from rq.utils import now

from jobs.catalog import Catalog
from jobs.errors import ModelUnavailable, Undecodable
from jobs.pace import WorkerPace
from jobs.queue import JOB_FUNCTION, parameters_of
from jobs.schema import JobReport, WorkerPresence
from jobs.store import Known, Store
from worker.metrics import WorkerMetrics
from worker.redis_clock import RedisClock
from worker.session import Session
from worker.settings import WorkerSettings
from worker.stopwatch import Stopwatch
from worker.task import Task

PACE_S = 0.5
"""How often a busy worker says what is left of its jobs."""


class Desk:
    """Everything of a job's life here that RQ does not know of. Called at step boundaries only."""

    def __init__(self, name: str, store: Store, catalog: Catalog, session: Session, settings: WorkerSettings) -> None:
        self.name = name
        self.store = store
        self.catalog = catalog
        self.session = session
        self.settings = settings
        self.metrics = WorkerMetrics()
        self.clock = RedisClock(store.connection)
        self._known: dict[str, Known] = {}
        self._pace_told_at = 0.0
        self._loading_told: list[str] = []

    def begin(self, job: Job) -> Task:
        """Start a job that RQ has just handed over. Raises JobFailure, or ValidationError for a foreign record."""
        if job.func_name != JOB_FUNCTION:
            raise Undecodable(f"This worker runs {JOB_FUNCTION!r} only, not {job.func_name!r}.")
        parameters = parameters_of(job)
        if parameters.model not in self.catalog.models:
            raise ModelUnavailable(f"This worker does not serve model {parameters.model!r}.")
        queued_s = (now() - (job.enqueued_at or now())).total_seconds()
        entry, approximate = self.catalog.model(parameters.model), job.meta.get("approximate", [])
        task = Task(job.id, parameters, entry, Stopwatch(queued_s), approximate)
        task.deadline_s = float(job.timeout or self.settings.job_deadline_s)
        task.stopwatch.enter("fetch")
        image, mask = self.store.inputs(job.id)
        task.stopwatch.enter("wait")
        tasks = [*self.session.tasks, task]
        with self.store.connection.pipeline(transaction=False) as pipeline:
            self.store.write_progress(
                pipeline,
                job.id,
                attempt=self._attempt(job),
                step=0,
                steps=parameters.num_inference_steps,
                loading=0,
                eta_ms=self._eta_ms(task, tasks),
            )
            self._tell_pace(pipeline, tasks)
            pipeline.execute()
        self.session.take(task, image, mask)
        return task

    def _attempt(self, job: Job) -> int:
        """1 for the first worker that takes the job; RQ spends a retry when one dies with it."""
        left = job.retries_left
        return 1 if left is None else max(1, self.settings.max_attempts - left)

    def publish(self, tasks: list[Task]) -> set[str]:
        """Write the progress of tasks that have moved; return the ids of jobs whose callers canceled them."""
        with self.store.connection.pipeline(transaction=False) as pipeline:
            for task in tasks:
                news = (task.step, task.loading, self.session.loads_next is not None)
                if news == task.published:
                    continue
                task.published = news
                self.store.write_progress(
                    pipeline,
                    task.job_id,
                    step=task.step,
                    steps=task.steps,
                    loading=int(task.loading),
                    eta_ms=self._eta_ms(task, tasks),
                )
            if time.monotonic() - self._pace_told_at > PACE_S or self.session.loading != self._loading_told:
                self._tell_pace(pipeline, tasks)
            pipeline.execute()
        self.tell_widths()
        return self.store.canceled([task.job_id for task in tasks])

    def _eta_ms(self, task: Task, tasks: list[Task]) -> float | None:
        """None where a model is to be loaded first: how long that takes is not known."""
        return None if task.loading or self.session.loads_next else self.session.rates.eta_ms(task, tasks)

    def _tell_pace(self, pipeline: Any, tasks: list[Task]) -> None:
        """What is left of the jobs here, more often than at every heartbeat: others wait for their end."""
        self.store.write_pace(pipeline, self.name, self._pace(tasks), self.settings.lease_s)
        self._pace_told_at, self._loading_told = time.monotonic(), self.session.loading

    def _pace(self, tasks: list[Task]) -> WorkerPace:
        pace = self.session.rates.pace(self.settings.seats, tasks, self.session.loading)
        return pace.model_copy(update={"clock_ahead_s": round(self.clock.ahead_s, 1)})

    def tell_widths(self) -> None:
        """Make known what adapters must fit and which schedulers do, for models that have been loaded since.

        On the engine's thread.
        """
        engine = self.session.engine
        for name, family in engine.models.items():
            source = self.catalog.model(name).source
            if source not in self._known:
                known = Known(engine.adapters.widths(family), list(family.schedulers))
                self.store.put_known(source, known)
                self._known = {**self._known, source: known}
        self.metrics.adapter_bytes.set(engine.adapters.size_bytes)

    def store_result(self, task: Task) -> JobReport:
        """Put the images into the store; return the report with its last account of the time."""
        assert isinstance(task.outcome, JobReport)
        task.stopwatch.enter("store")
        self.store.put_results(task.job_id, task.images)
        task.stopwatch.enter("wait")
        return task.outcome.model_copy(update={"timings": task.stopwatch.timings(task.steps)})

    def note_success(self, report: JobReport, task: Task) -> None:
        self.metrics.succeeded(report, task.parameters.model)
        self.store.note_end(task.job_id)

    def note_failure(self, code: str, job_id: str) -> None:
        self.store.note_end(job_id)
        self.metrics.failed(code)

    # ---- presence

    def announce(self, job_ids: list[str]) -> None:
        engine = self.session.engine
        presence = WorkerPresence(
            name=self.name,
            models=list(self.catalog.models),
            loaded=list(engine.models),
            seats=self.settings.seats,
            jobs=job_ids,
            device=engine.device_name,
            device_memory_bytes=engine.device_memory_bytes(),
            last_beat_at=now(),
        )
        pace = self._pace(self.session.tasks)
        self.store.announce(presence, self.settings.lease_s, pace)
        self.metrics.slowness.set(pace.slowness)
        self.metrics.clock_ahead.set(self.clock.ahead_s)
        self.store.keep_known(self._known)
        self.metrics.seats_taken.set(len(job_ids))

    def withdraw(self) -> None:
        self.store.withdraw(self.name)
