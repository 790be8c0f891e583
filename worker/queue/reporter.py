"""Moves data between Redis and the session: inputs, progress, results, and this worker's announcement."""

import time
from typing import Any

from rq.job import Job
from rq.utils import now

from jobs.catalog import Catalog
from jobs.errors import ModelUnavailable, Undecodable
from jobs.known_models import Known
from jobs.previews import Preview
from jobs.queue import JOB_FUNCTION, parameters_of
from jobs.room import record_forgotten_ends
from jobs.schema import JobReport, WorkerPresence
from jobs.speed import WorkerSpeed
from jobs.store import Store
from worker.engine.finding import Search
from worker.engine.session import Session
from worker.engine.stopwatch import Stopwatch
from worker.engine.task import Task
from worker.metrics import WorkerMetrics
from worker.queue.redis_clock import RedisClock
from worker.settings import WorkerSettings

SPEED_S = 0.5
"""How often a busy worker publishes its speed and what is left of its jobs."""


class Reporter:
    """Reads and writes everything of a job that RQ does not know. Called at step boundaries only."""

    def __init__(self, name: str, store: Store, catalog: Catalog, session: Session, settings: WorkerSettings) -> None:
        self.name = name
        self.store = store
        self.catalog = catalog
        self.session = session
        self.engine = session.engine
        self.settings = settings
        self.metrics = WorkerMetrics()
        self.clock = RedisClock(store.connection)
        self._known: dict[str, Known] = {}
        self._speed_published_at = 0.0
        self._loading_published: list[str] = []

    def begin(self, job: Job) -> Task:
        """Start a job that RQ has just handed over. Raises JobFailure, or ValidationError for a foreign record."""
        if job.func_name != JOB_FUNCTION:
            raise Undecodable(f"This worker runs {JOB_FUNCTION!r} only, not {job.func_name!r}.")
        parameters = parameters_of(job)
        if parameters.model not in self.catalog.models:
            raise ModelUnavailable(f"This worker does not serve model {parameters.model!r}.")
        find = parameters.find
        if find and find.model not in self.catalog.segmenters:
            raise ModelUnavailable(f"This worker does not serve segmenter {find.model!r}.")
        queued_s = (now() - (job.enqueued_at or now())).total_seconds()
        entry, marks = self.catalog.model(parameters.model), self.settings.marking
        search = Search(find, self.catalog.segmenters[find.model].least_score) if find else None
        task = Task(job.id, parameters, entry, Stopwatch(queued_s), search, marks, self.session.sign)
        task.deadline_s = float(job.timeout or self.settings.job_deadline_s)
        task.enter("fetch")
        inputs = self.store.inputs(job.id)
        task.enter("wait")
        tasks = [*self.session.tasks, task]
        with self.store.pipeline() as pipeline:
            self.store.write_progress(
                pipeline,
                job.id,
                attempt=self._attempt(job),
                step=0,
                steps=task.steps,
                loading=0,
                eta_ms=self._eta_ms(task, tasks),
                preview_step=None,
            )
            self._publish_speed(pipeline, tasks)
            pipeline.execute()
        self.session.take(task, inputs)
        return task

    def _attempt(self, job: Job) -> int:
        """1 for the first worker that takes the job; RQ spends a retry when a worker dies with it."""
        left = job.retries_left
        return 1 if left is None else max(1, self.settings.max_attempts - left)

    def publish(self, tasks: list[Task]) -> set[str]:
        """Write the progress of tasks that have moved; return the ids of jobs whose callers canceled them."""
        with self.store.pipeline() as pipeline:
            for task in tasks:
                state = (task.step, task.loading, self.session.loads_next is not None)
                preview = self._publish_preview(pipeline, task)
                if state == task.published and preview is None:
                    continue
                task.published = state
                self.store.write_progress(
                    pipeline,
                    task.job_id,
                    step=task.step,
                    steps=task.steps,
                    loading=int(task.loading),
                    eta_ms=self._eta_ms(task, tasks),
                    **({"preview_step": preview.step} if preview else {}),
                )
            stale = time.monotonic() - self._speed_published_at > SPEED_S
            if stale or self.session.loading != self._loading_published:
                self._publish_speed(pipeline, tasks)
            pipeline.execute()
        self.publish_known()
        flags = self.store.flags([task.job_id for task in tasks])
        for task in tasks:
            task.previews.wanted = task.job_id in flags.previewed
        return flags.canceled

    def _publish_preview(self, pipeline: Any, task: Task) -> Preview | None:
        """Queue the preview that has been encoded since the last boundary, and return it; None if none has."""
        if preview := task.previews.encoded():
            self.store.previews.write(pipeline, task.job_id, preview.model_dump_json())
        return preview

    def _eta_ms(self, task: Task, tasks: list[Task]) -> float | None:
        """None while a model must be loaded first: how long that takes is not known."""
        return None if task.loading or self.session.loads_next else self.session.eta_ms(task, tasks)

    def _publish_speed(self, pipeline: Any, tasks: list[Task]) -> None:
        """Queue what is left of the jobs here. Waiting jobs' estimates need it more often than at every heartbeat."""
        self.store.write_speed(pipeline, self.name, self._speed(tasks), self.settings.lease_s)
        self._speed_published_at, self._loading_published = time.monotonic(), self.session.loading

    def _speed(self, tasks: list[Task]) -> WorkerSpeed:
        speed = self.session.speed(self.settings.seats, tasks)
        return speed.model_copy(update={"clock_ahead_s": round(self.clock.ahead_s, 1)})

    def publish_known(self) -> None:
        """Publish layer widths (adapters must fit them) and schedulers of the models loaded since the last call.

        On the engine's thread.
        """
        for name in self.engine.models:
            source = self.catalog.model(name).source
            if source not in self._known:
                known = Known(self.engine.widths(name), self.engine.schedulers(name))
                self.store.known.put(source, known)
                self._known = {**self._known, source: known}
        self.metrics.set_adapter_bytes(self.engine.adapter_bytes)

    def flag_cancel(self, job_id: str) -> None:
        self.store.flag_cancel(job_id)

    def is_canceled(self, job_id: str) -> bool:
        return bool(self.store.canceled([job_id]))

    def drop(self, task: Task) -> None:
        """Take a task out of the running batch, whatever its phase."""
        self.session.drop(task)

    # ---- ends

    @property
    def result_patience_s(self) -> float:
        """How long a result without room in the store is kept."""
        return self.settings.result_patience_s

    def store_result(self, task: Task) -> JobReport:
        """Put the images into the store; return the report with its final timings."""
        assert isinstance(task.outcome, JobReport)
        task.enter("store")
        self.store.put_results(task.job_id, task.images, task.search.png if task.search else None)
        task.enter("wait")
        return task.outcome.model_copy(update={"timings": task.timings})

    def record_success(self, report: JobReport, task: Task) -> None:
        self.metrics.succeeded(report, task.model)
        self.store.record_end(task.job_id)

    def record_failure(self, code: str, job_id: str) -> None:
        self.store.record_end(job_id)
        self.metrics.failed(code)

    def record_forgotten_ends(self) -> None:
        """Record the end of jobs that ended while no process could record it."""
        record_forgotten_ends(self.store)

    # ---- presence

    def read_clock(self) -> float:
        """Redis' time, in unix seconds."""
        return self.clock.look()

    def announce(self, job_ids: list[str]) -> None:
        """Publish that this worker lives, what it has loaded, its jobs and its speed."""
        presence = WorkerPresence(
            name=self.name,
            models=[*self.catalog.models, *self.catalog.segmenters],
            loaded=[*self.engine.models, *list(self.session.segmenters)],
            seats=self.settings.seats,
            jobs=job_ids,
            device=self.engine.device_name,
            device_memory_bytes=self.engine.device_memory_bytes(),
            last_beat_at=now(),
        )
        speed = self._speed(self.session.tasks)
        self.store.announce(presence, self.settings.lease_s, speed)
        self.metrics.beaten(speed.slowdown, self.clock.ahead_s, len(job_ids))
        self.store.known.keep(self._known)

    def withdraw(self) -> None:
        self.store.withdraw(self.name)
