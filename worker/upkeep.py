"""What a worker does beside its jobs: renew its leases, reclaim dead workers' jobs, keep its own registration.

RQ's own calls of Redis around a session stand here too, so that none of them ends the process while Redis is away.
"""

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from rq import worker_registration
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.utils import now
from rq.worker import WorkerStatus

from jobs.room import note_forgotten_ends
from worker.endings import JobEndings
from worker.leases import Heartbeat, Leases
from worker.settings import WorkerSettings

T = TypeVar("T")

AWAY_S = 0.5
"""Time between two tries while Redis does not serve."""


class Upkeep(JobEndings):
    """The half of the worker that is not about its own jobs."""

    settings: WorkerSettings
    leases: Leases
    pulse: Heartbeat

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._beaten_at = time.monotonic()
        self._back_at = self._maintained_at = -math.inf

    # ---- leases

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return self.settings.lease_s

    def prepare_execution(self, job: Job) -> Execution:
        """Take the lease, by Redis' clock from its first moment."""
        with self.connection.pipeline() as pipeline:
            execution = Execution.create(job, self.settings.lease_s, pipeline=pipeline, worker_name=self.name)
            self.leases.date(job, execution, pipeline)
            super().set_state(WorkerStatus.BUSY, pipeline=pipeline)
            pipeline.execute()
        self.executions[execution.id] = execution
        return execution

    def beat(self) -> None:
        """Called by the heartbeat's thread: renew the leases, say that this worker lives."""
        self.desk.clock.look()
        seats = self.leases.renew(self._register)
        self.desk.announce([seat.job.id for seat in seats])
        if self._out_of_touch():  # also where one beat took that long, trying again and again
            self._back_at = time.monotonic()
        self._beaten_at = time.monotonic()

    def _register(self, pipeline: Any) -> None:
        """All that RQ writes once, at the start: Redis may have lost its data since."""
        if self.birth_date is None:
            return
        self.last_heartbeat = now()
        worker_registration.register(self, pipeline)
        pipeline.hset(self.key, mapping=self.serialize())
        pipeline.expire(self.key, self.worker_ttl + 60)
        pipeline.expire(self.executions_key, self.worker_ttl + 60)

    def _out_of_touch(self) -> bool:
        """Whether no beat has reached Redis for half a lease. The announcement at the start counts as the first."""
        return time.monotonic() - self._beaten_at > self.settings.lease_s / 2

    # ---- maintenance

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """RQ asks the machine's clock, which may be set back."""
        return time.monotonic() - self._maintained_at > self.maintenance_interval

    def run_maintenance_tasks(self) -> None:
        self._maintained_at = time.monotonic()
        try:
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except RedisError as error:
            self.log.warning("Redis does not answer, no maintenance now: %s", error)

    def clean_registries(self) -> None:
        """Reclaim dead workers' jobs, once every living worker had the time to renew its leases.

        RQ's own method compares the leases with this machine's clock, and looks for kinds of jobs that are not used.
        """
        asked_at, at = time.monotonic(), self.desk.clock.look()
        if self._leases_look_lapsed(asked_at):  # a lease that lapses while the next calls wait is later than ``at``
            return
        queue = self._queue()
        if queue.acquire_maintenance_lock():
            queue.started_job_registry.cleanup(at, exception_handlers=self._exc_handlers)
            queue.finished_job_registry.cleanup(at)
            queue.failed_job_registry.cleanup(at)
            worker_registration.clean_worker_registry(queue)
            queue.intermediate_queue.cleanup(self, queue)
            self._note_crashes()
            note_forgotten_ends(self.desk.store)
            forgotten = at - self.settings.record_ttl_s
            self.connection.zremrangebyscore(queue.canceled_job_registry.key, 0, forgotten)  # RQ itself never does
            queue.release_maintenance_lock()  # type: ignore[no-untyped-call]

    def _leases_look_lapsed(self, asked_at: float) -> bool:
        """Whether Redis restarted or was away (a failover, a cut) so lately that living workers' leases have lapsed.

        ``asked_at``: the monotonic time before the first of the questions that this look asks.
        """
        patience_s = self.settings.lease_s + 2
        uptime_s = self.connection.info("server")["uptime_in_seconds"]
        if time.monotonic() - asked_at > self.settings.lease_s / 2:  # the questions waited for a failover
            self._back_at = time.monotonic()
        lately = time.monotonic() - self._back_at < patience_s
        return bool(lately or self._out_of_touch() or uptime_s < patience_s)

    # ---- RQ's own calls around a session

    def _when_served(self, call: Callable[[], T]) -> T:
        """The call's answer, once Redis serves; raises StopRequested when the process is to stop meanwhile."""
        while True:
            try:
                return call()
            except RedisError as error:
                self.log.warning("Redis does not answer: %s", error)
                if self._stop_requested:
                    raise StopRequested from error
                time.sleep(AWAY_S)

    def _announced(self) -> None:
        """The first word to Redis. A server that cannot be reached, or lets nobody in, ends the start: it raises."""
        while True:
            try:
                self.desk.announce([])
                self.desk.tell_widths()
                return
            except (ResponseError, BusyLoadingError) as error:
                self.log.warning("Redis does not answer: %s", error)
                time.sleep(AWAY_S)

    def register_birth(self) -> None:
        self._when_served(super().register_birth)

    def subscribe(self) -> None:
        self._when_served(super().subscribe)

    def check_for_suspension(self, burst: bool) -> None:
        self._when_served(lambda: super(Upkeep, self).check_for_suspension(burst))

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """The thread beats; RQ's own beats in between are only taken along where they cost no call."""
        if pipeline is not None:
            super().heartbeat(timeout, pipeline)

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """For RQ's dashboards alone."""
        try:
            super().set_state(state, pipeline)
        except RedisError as error:
            self.log.warning("Redis does not answer, state %s is not shown: %s", state, error)

    def teardown(self) -> None:
        """What Redis cannot be told now, it forgets by itself."""
        self.pulse.end()
        for leave in (super().teardown, self.desk.withdraw):
            try:
                cast(Callable[[], None], leave)()
            except RedisError as error:
                self.log.warning("Redis does not answer: %s", error)
