"""The two Python members of the stack, each a process of its own: the API and a worker."""

import sys
import uuid
from typing import cast

from redis import Redis
from redis.exceptions import RedisError
from rq.executions import WORKER_EXECUTIONS_KEY_TEMPLATE
from rq.registry import StartedJobRegistry

from jobs.connection import RedisAddress, connect_api
from jobs.settings import QueueSettings
from jobs.store import Store
from launch.folder import Folder
from launch.process import Process
from launch.service import Service
from launch.settings import LaunchSettings


class PythonService(Service):
    """``python -m <module>``; environment variables name its Redis."""

    module: str

    def __init__(self, label: str, settings: LaunchSettings, folder: Folder, redis: RedisAddress) -> None:
        super().__init__(label)
        self.settings = settings
        self.redis = redis
        self._log = folder.log(label)

    def spawn(self) -> Process:
        env = {
            "INFILL_REDIS_URL": self.redis.url,
            "INFILL_REDIS_SENTINELS": self.redis.sentinels or "",
            "INFILL_REDIS_SERVICE": self.redis.service or "",
            "INFILL_QUEUE_NAME": self.settings.queue_name,
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-P", "-m", self.module]  # -P: a folder called app in the current one is not ours
        return Process(command, {**env, **self.env()}, self._log)

    def env(self) -> dict[str, str]:
        return {}


class Api(PythonService):
    module = "app"

    def __init__(self, settings: LaunchSettings, folder: Folder, redis: RedisAddress, port: int) -> None:
        super().__init__("api", settings, folder, redis)
        self.port = port

    def env(self) -> dict[str, str]:
        return {"INFILL_HOST": self.settings.host, "INFILL_PORT": str(self.port)}


class Worker(PythonService):
    """A worker gets a new name in each life: RQ refuses a name whose last worker did not unregister."""

    module = "worker"
    name = ""

    def __init__(self, index: int, settings: LaunchSettings, folder: Folder, redis: RedisAddress) -> None:
        super().__init__(f"worker-{index}", settings, folder, redis)
        self.device = settings.device_names[index - 1] if settings.devices else ""
        self.metrics_port = settings.metrics_port and settings.metrics_port + index - 1

    def env(self) -> dict[str, str]:
        self.name = f"{self.label}-{uuid.uuid4().hex[:12]}"
        device = {"INFILL_DEVICE": self.device} if self.device else {}
        return {"INFILL_WORKER_NAME": self.name, "INFILL_METRICS_PORT": str(self.metrics_port), **device}

    def bury(self, process: Process) -> str:
        """Give its jobs to the other workers now, not when the lease lapses; /readyz no longer counts it."""
        try:
            with connect_api(self.redis) as connection:
                count = expire_leases_of(connection, self.name, self.settings.queue_name)
                Store(connection, QueueSettings.model_validate({})).withdraw(self.name)
        except (RedisError, OSError) as error:
            return f", Redis does not answer ({error})"
        return f", {count} of its jobs given back" if count else ""


def expire_leases_of(connection: Redis, worker_name: str, queue_name: str) -> int:
    """Let the leases of a worker lapse now instead of in up to a lease's length; returns how many it held.

    A living worker finds the lapsed leases at its next maintenance, within about two seconds, and the jobs are tried
    again. Call it only when the process is known to be dead. A lease whose job has ended meanwhile stays gone: ``XX``
    never brings one back.
    """
    held = cast("set[bytes]", connection.smembers(WORKER_EXECUTIONS_KEY_TEMPLATE.format(worker_name)))
    if not held:
        return 0
    started = StartedJobRegistry(queue_name, connection=connection)
    return cast(int, connection.zadd(started.key, dict.fromkeys(held, 1), xx=True, ch=True))
