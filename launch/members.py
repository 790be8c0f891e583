"""The two Python members of the stack, each a process of its own: the API and a worker."""

import sys
import uuid

from redis.exceptions import RedisError

from jobs.connection import connect_api
from jobs.leases import expire_leases_of
from jobs.settings import QueueSettings
from jobs.store import Store
from launch.folder import Folder
from launch.process import Process
from launch.service import Service
from launch.settings import LaunchSettings


class PythonService(Service):
    """``python -m <module>``, told by environment variables where Redis is."""

    module: str

    def __init__(self, label: str, settings: LaunchSettings, folder: Folder, redis_url: str) -> None:
        super().__init__(label)
        self.settings = settings
        self.redis_url = redis_url
        self._log = folder.log(label)

    def spawn(self) -> Process:
        env = {
            "INFILL_REDIS_URL": self.redis_url,
            "INFILL_QUEUE_NAME": self.settings.queue_name,
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-P", "-m", self.module]  # -P: a folder called app in the current one is not ours
        return Process(command, {**env, **self.env()}, self._log)

    def env(self) -> dict[str, str]:
        return {}


class Api(PythonService):
    module = "app"

    def __init__(self, settings: LaunchSettings, folder: Folder, redis_url: str, port: int) -> None:
        super().__init__("api", settings, folder, redis_url)
        self.port = port

    def env(self) -> dict[str, str]:
        return {"INFILL_HOST": self.settings.host, "INFILL_PORT": str(self.port)}


class Worker(PythonService):
    """A worker gets a new name in each life: RQ refuses a name whose last bearer did not say goodbye."""

    module = "worker"
    name = ""

    def __init__(self, index: int, settings: LaunchSettings, folder: Folder, redis_url: str) -> None:
        super().__init__(f"worker-{index}", settings, folder, redis_url)
        self.metrics_port = settings.metrics_port and settings.metrics_port + index - 1

    def env(self) -> dict[str, str]:
        self.name = f"{self.label}-{uuid.uuid4().hex[:12]}"
        return {"INFILL_WORKER_NAME": self.name, "INFILL_METRICS_PORT": str(self.metrics_port)}

    def bury(self, process: Process) -> str:
        """Give its jobs to the other workers now, not when the lease lapses; tell /readyz that it is gone."""
        try:
            with connect_api(self.redis_url) as connection:
                count = expire_leases_of(connection, self.name, self.settings.queue_name)
                Store(connection, QueueSettings.model_validate({})).withdraw(self.name)
        except (RedisError, OSError) as error:
            return f", Redis does not answer ({error})"
        return f", {count} of its jobs given back" if count else ""
