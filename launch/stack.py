"""Redis, the API and the workers as one thing: started in order, watched over, stopped in order."""

import signal
import time
from collections.abc import Callable

import httpx

from jobs.connection import RedisAddress
from launch import ports, redis_server
from launch.errors import LaunchError
from launch.folder import claim
from launch.members import Api, Worker
from launch.redis_server import RedisServer
from launch.service import Service
from launch.settings import LaunchSettings
from launch.stop_signals import StopSignals

LOOK_S = 0.2
DRAIN_LOOK_S = 0.05
API_STOP_TIMEOUT_S = 5.0
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Stack:
    """Everything one ``infill up`` or ``infill demo`` runs, in the folder ``var/<kind>-<n>``.

    ``start``, then ``watch`` or other work, then ``stop``, which also undoes a start that failed half-way.
    """

    def __init__(self, settings: LaunchSettings, kind: str, signals: StopSignals, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.folder = claim(settings.var_dir, kind)
        self._signals = signals
        self._say = say
        self._port: ports.Port | None = None
        self._redis: RedisServer | None = None
        self._api: Api | None = None
        self._workers: list[Worker] = []

    @property
    def url(self) -> str:
        """Where the API answers, seen from this machine."""
        assert self._port is not None, "the stack was not started"
        host = ANY.get(self.settings.host, self.settings.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port.number}"

    @property
    def services(self) -> list[Service]:
        return [service for service in (self._redis, self._api, *self._workers) if service]

    # ---- start

    def start(self) -> None:
        """Start everything and return when /readyz says so. Raises LaunchError, Interrupted."""
        named = "port" in self.settings.model_fields_set
        self._port = (ports.reserve_exactly if named else ports.reserve)(self.settings.host, self.settings.port)
        redis = self._start_redis()
        if self._port.number != self.settings.port:
            self._say(f"port {self.settings.port} is taken; using {self._port.number}")
        self._api = Api(self.settings, self.folder, redis, self._port.number)
        for index in range(1, self.settings.workers + 1):
            self._workers.append(Worker(index, self.settings, self.folder, redis))
        for service in (self._api, *self._workers):
            self.folder.start_log(service.label)
            service.start()
        self._wait_until_ready()

    def _start_redis(self) -> RedisAddress:
        """Start our Redis, or check the one that the settings name; returns its address."""
        if address := self.settings.redis:
            self._check(address)
            self._say(f"Redis: {address} (yours)")
            return address
        self._redis = RedisServer(self.folder, self.settings.redis_maxmemory)
        self.folder.start_log(self._redis.label)
        self._redis.start()
        self._redis.wait(self._signals.check, self._say)
        self._say(f"Redis: {self._redis.url} ({self._redis.binary.name}, data in {self._redis.folder.redis})")
        return RedisAddress(self._redis.url)

    @staticmethod
    def _check(address: RedisAddress) -> None:
        try:
            answer = redis_server.answers(address)
        except ValueError as error:
            raise LaunchError(str(error)) from None
        if answer is None:
            names = "INFILL_REDIS_SENTINELS names" if address.sentinels else "INFILL_REDIS_URL names"
            raise LaunchError(f"{names} {address}, which does not answer.")

    def _wait_until_ready(self) -> None:
        began = time.monotonic()
        self._say(f"starting the API and {len(self._workers)} worker{'s' * (len(self._workers) > 1)}")
        while time.monotonic() - began < self.settings.ready_timeout_s:
            self._signals.check()
            if dead := next((service for service in self.services if not service.alive), None):
                raise LaunchError(f"{dead.label} {dead.process.ending} before it was ready.", dead.process.log)
            if self._is_ready():
                self._say(f"ready after {time.monotonic() - began:.1f} s")
                return
            time.sleep(LOOK_S)
        raise self._not_ready()

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _not_ready(self) -> LaunchError:
        """Whose fault it is that /readyz does not say yes."""
        seconds = f"{self.settings.ready_timeout_s:g} s"
        try:
            said = httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).text
        except httpx.HTTPError as error:
            return LaunchError(f"The API does not answer after {seconds} ({error}).", self.folder.log("api"))
        return LaunchError(f"No worker is ready after {seconds}; the API says: {said}", self.folder.log("worker-1"))

    # ---- serve

    def watch(self) -> None:
        """Start again whatever dies, until the end is asked for."""
        while not self._signals.requested:
            self.check()
            time.sleep(LOOK_S)

    def check(self) -> None:
        """One look at every process: what died is reported, cleaned up after and started again."""
        for service in self.services:
            if report := service.check():
                self._say(report)

    # ---- stop

    def stop(self) -> None:
        """The API stops listening, the workers finish what they have, Redis goes last. Nothing is left behind."""
        if self._api:
            self._api.send(signal.SIGTERM)
        self._drain()
        if self._api:
            self._api.end(API_STOP_TIMEOUT_S)
        if self._redis:
            self._redis.end(redis_server.STOP_TIMEOUT_S)
        for held in (self._redis, self._port, self.folder):
            if held:
                held.release()

    def _drain(self) -> None:
        """SIGTERM to the workers, once more at each further Ctrl-C, SIGKILL when their time is up."""
        deadline = time.monotonic() + self.settings.drain_timeout_s
        asked = -1
        while living := [worker for worker in self._workers if worker.alive]:
            if asked < self._signals.count:
                asked = self._signals.count
                for worker in living:
                    worker.send(signal.SIGTERM)
            if time.monotonic() > deadline:
                self._say(f"killing {', '.join(worker.label for worker in living)}: still busy")
                for worker in living:
                    worker.end(0)
                    worker.bury(worker.process)
            if self._redis:
                self._redis.check()  # a worker that has lost its Redis cannot finish
            time.sleep(DRAIN_LOOK_S)
