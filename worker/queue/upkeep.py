"""What a worker does beside its jobs: renew its leases, reclaim dead workers' jobs, keep its own registration.

RQ's own calls of Redis around a session pass through here too, so that none of them ends the process while Redis is
away.
"""

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from rq import SimpleWorker, worker_registration
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.utils import now

from worker.queue.inpaint_queue import InpaintQueue
from worker.queue.leases import Leases
from worker.queue.outcomes import Outcomes
from worker.queue.reporter import Reporter
from worker.settings import WorkerSettings

T = TypeVar("T")

AWAY_S = 0.5
"""Time between two tries while Redis does not serve."""


class Upkeep:
    """Keeps one worker alive in Redis, and looks for workers that have died.

    Args:
        rq: RQ's worker, whose registration is kept.
        queue: the queue whose registries are looked through.
        leases: renewed at every beat.
        outcomes: records the ends of dead workers' jobs.
        reporter: announces this worker; knows Redis' time.
        settings: of this worker.
    """

    def __init__(
        self,
        rq: SimpleWorker,
        queue: InpaintQueue,
        leases: Leases,
        outcomes: Outcomes,
        reporter: Reporter,
        settings: WorkerSettings,
    ) -> None:
        self.rq = rq
        self.queue = queue
        self.leases = leases
        self.outcomes = outcomes
        self.reporter = reporter
        self.settings = settings
        self.log = rq.log
        self._beaten_at = time.monotonic()
        self._back_at = self._maintained_at = -math.inf

    # ---- leases

    def take_lease(self, job: Job, also: Callable[[Any], None]) -> Execution:
        """Take a job's lease, by Redis' clock from its first moment; ``also`` adds to the same transaction."""
        with self.rq.connection.pipeline() as pipeline:
            execution = Execution.create(job, self.settings.lease_s, pipeline=pipeline, worker_name=self.rq.name)
            self.leases.date(job, execution, pipeline)
            also(pipeline)
            pipeline.execute()
        self.rq.executions[execution.id] = execution
        return execution

    def beat(self) -> None:
        """Renew the leases and announce this worker. The heartbeat's thread calls it."""
        self.reporter.read_clock()
        seats = self.leases.renew(self._register)
        self.reporter.announce([seat.job_id for seat in seats])
        if self._out_of_touch():  # also where one beat took that long, trying again and again
            self._back_at = time.monotonic()
        self._beaten_at = time.monotonic()

    def _register(self, pipeline: Any) -> None:
        """Write all that RQ writes once, at the start: Redis may have lost its data since."""
        rq = self.rq
        if rq.birth_date is None:
            return
        rq.last_heartbeat = now()
        worker_registration.register(rq, pipeline)
        pipeline.hset(rq.key, mapping=rq.serialize())
        pipeline.expire(rq.key, rq.worker_ttl + 60)
        pipeline.expire(rq.executions_key, rq.worker_ttl + 60)

    def _out_of_touch(self) -> bool:
        """Whether no beat has reached Redis for half a lease. The announcement at the start counts as the first."""
        return time.monotonic() - self._beaten_at > self.settings.lease_s / 2

    # ---- maintenance

    @property
    def is_due(self) -> bool:
        """Whether to look for dead workers now. RQ compares the machine's clock, which may be set back."""
        return time.monotonic() - self._maintained_at > self.rq.maintenance_interval

    def maintain(self, run: Callable[[], Any]) -> None:
        """Run RQ's maintenance; while Redis is away, skip it."""
        self._maintained_at = time.monotonic()
        try:
            run()
        except RedisError as error:
            self.log.warning("Redis does not answer, no maintenance now: %s", error)

    def reclaim(self) -> None:
        """Reclaim dead workers' jobs, once every living worker had the time to renew its leases.

        RQ's own method compares the leases with this machine's clock, and looks for kinds of jobs that are not used.
        """
        asked_at, at = time.monotonic(), self.reporter.read_clock()
        if self._leases_look_lapsed(asked_at):  # a lease that lapses while the next calls wait is later than ``at``
            return
        if self.queue.acquire_maintenance_lock():
            self.queue.clean(self.rq, at, canceled_before=at - self.settings.record_ttl_s)
            self.outcomes.record_crashes()
            self.reporter.record_forgotten_ends()
            self.queue.release_maintenance_lock()  # type: ignore[no-untyped-call]

    def _leases_look_lapsed(self, asked_at: float) -> bool:
        """Whether Redis restarted or was away (a failover, a cut) so lately that living workers' leases have lapsed.

        ``asked_at``: the monotonic time before the first of the questions that this check asks.
        """
        patience_s = self.settings.lease_s + 2
        uptime_s = self.rq.connection.info("server")["uptime_in_seconds"]
        if time.monotonic() - asked_at > self.settings.lease_s / 2:  # the questions waited for a failover
            self._back_at = time.monotonic()
        lately = time.monotonic() - self._back_at < patience_s
        return bool(lately or self._out_of_touch() or uptime_s < patience_s)

    # ---- RQ's own calls around a session

    def start(self) -> None:
        """Announce this worker. A server that cannot be reached, or refuses the login, ends the start: it raises."""
        while True:
            try:
                self.reporter.announce([])
                self.reporter.publish_known()
                break
            except (ResponseError, BusyLoadingError) as error:
                self.log.warning("Redis does not answer: %s", error)
                time.sleep(AWAY_S)
        self._beaten_at = time.monotonic()

    def when_served(self, call: Callable[[], T]) -> T:
        """Return the call's result, once Redis serves; raise StopRequested if the process is to stop meanwhile."""
        while True:
            try:
                return call()
            except RedisError as error:
                self.log.warning("Redis does not answer: %s", error)
                if self.rq._stop_requested:
                    raise StopRequested from error
                time.sleep(AWAY_S)

    def show_state(self, show: Callable[[], Any]) -> None:
        """Write the state, which only RQ's dashboards show; while Redis is away, leave it."""
        try:
            show()
        except RedisError as error:
            self.log.warning("Redis does not answer, the worker's state is not shown: %s", error)

    def leave(self, unregister: Callable[[], Any]) -> None:
        """Unregister with RQ and withdraw the announcement; what Redis does not receive now expires there."""
        for write in (unregister, self.reporter.withdraw):
            try:
                write()
            except RedisError as error:
                self.log.warning("Redis does not answer: %s", error)
