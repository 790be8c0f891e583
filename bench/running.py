"""Infill for a measurement, started as ``infill up`` starts it and stopped at the end: whole, or without workers."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from jobs.connection import RedisAddress
from launch import ports
from launch.folder import claim
from launch.members import Api
from launch.redis_server import STOP_TIMEOUT_S, RedisServer
from launch.settings import LaunchSettings
from launch.stack import Stack
from launch.stop_signals import SIGNALS, StopSignals

READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class RunningApi:
    url: str
    pid: int


class _Api(Api):
    """An API with settings of its own."""

    def __init__(self, environment: Mapping[str, str], *given: Any) -> None:
        super().__init__(*given)
        self.environment = environment

    def env(self) -> dict[str, str]:
        return {**super().env(), **self.environment}


@contextmanager
def running_service(workers: int = 1) -> Iterator[str]:
    """Yield the API's URL. From then on Ctrl-C, SIGTERM and a closed terminal end the program, which stops it all."""
    settings = LaunchSettings(workers=workers)
    stack = Stack(settings, "bench", StopSignals(), lambda line: print(line, file=sys.stderr))
    try:
        stack.folder.clear_redis()
        stack.start()
        for number in SIGNALS:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        yield stack.url
    finally:
        stack.stop()


@contextmanager
def running_apis(core: int, sides: Sequence[Mapping[str, str]] = ({},)) -> Iterator[tuple[str, list[RunningApi]]]:
    """Yield the URL of Redis, and an API for each of ``sides``: what its environment has beside the others'."""
    settings = LaunchSettings(workers=1)
    folder = claim(settings.var_dir, "bench")
    folder.clear_redis()
    redis = RedisServer(folder, settings.redis_maxmemory)
    redis.start()
    redis.wait(lambda: None, print)
    with ExitStack() as ends:
        for held in (folder, redis):
            ends.callback(held.release)
        ends.callback(redis.end, STOP_TIMEOUT_S)
        apis = []
        for index, environment in enumerate(sides):
            port = ports.reserve_any("127.0.0.1")
            ends.callback(port.release)
            api = _Api(environment, settings, folder, RedisAddress(redis.url), port.number)
            api.label = f"api-{index}"
            api.start()
            ends.callback(api.end, 5)
            ends.callback(api.send, signal.SIGTERM)
            os.sched_setaffinity(api.process.pid, {core})  # before it has threads; they inherit it
            apis.append(RunningApi(f"http://127.0.0.1:{port.number}", api.process.pid))
        for api_there in apis:
            _wait_until_up(api_there.url)
        yield redis.url, apis


def _wait_until_up(url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/healthz", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit("The API does not answer.")
