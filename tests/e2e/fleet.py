"""A stack whose workers come and go: they have names, are killed, and are replaced."""

import signal
import time
from pathlib import Path

from redis import Redis
from rq.job import Job, JobStatus

from tests.e2e.stack import Process, Stack
from tests.redis_server import RedisServer

LEASE_S = 5
SETTINGS = {
    "INFILL_LEASE_S": str(LEASE_S),
    "INFILL_BEAT_S": "1",
    "INFILL_MAINTENANCE_S": "1",
    "INFILL_MAX_ATTEMPTS": "3",
    "INFILL_GRACE_S": "60",
    "INFILL_SEATS": "3",
}


class Fleet(Stack):
    """A stack whose workers can be found by the names they go by in Redis, and that is refilled after losses."""

    def __init__(self, server: RedisServer, folder: Path, **env: str) -> None:
        super().__init__(server.url, folder, **{**SETTINGS, **env})
        self.server = server
        self.named: dict[str, Process] = {}

    def hire(self, count: int) -> None:
        """Start workers until ``count`` of them live and have announced themselves."""
        self.start(count)
        deadline = time.monotonic() + 120
        while not set(self.named) <= set(self.jobs_at_work()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.1)

    def start(self, count: int) -> None:
        """Start workers until ``count`` of them run, and do not wait."""
        for name, process in list(self.named.items()):
            if process.popen.poll() is not None:
                del self.named[name]
        while len(self.named) < count:
            name = f"w{len(self.workers)}"
            self.named[name] = self.start_worker(INFILL_WORKER_NAME=name)

    def holder_of(self, job_id: str, timeout_s: float = 60) -> str:
        """The worker that has taken a job, as RQ notes it at once; a worker's own word can be a heartbeat old."""
        deadline = time.monotonic() + timeout_s
        with Redis.from_url(self.server.url, decode_responses=True) as connection:
            while time.monotonic() < deadline:
                status, name = connection.hmget(Job.key_for(job_id), "status", "worker_name")
                if status == JobStatus.STARTED and name in self.named:
                    return str(name)
                time.sleep(0.02)
        raise TimeoutError(f"nobody has job {job_id}")

    def kill(self, name: str) -> None:
        process = self.named.pop(name)
        process.send(signal.SIGKILL)
        process.popen.wait()

    def end(self) -> None:
        self.thaw_all()
        super().end()

    def thaw_all(self) -> None:
        """Let frozen workers go on, so that they can be ended."""
        for worker in self.workers:
            if worker.popen.poll() is None:
                worker.send(signal.SIGCONT)
