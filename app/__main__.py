"""``python -m app``: serve the API. SIGTERM and Ctrl-C let calls that are being answered finish."""

import resource
import signal
import socket
import sys
from types import FrameType
from typing import Any, cast

import uvicorn
from redis.exceptions import RedisError

from app.backend import Backend
from app.connections import Connections
from app.main import create_app
from app.settings import ApiSettings
from jobs.api_keys import ApiKeys
from jobs.environment import begin
from jobs.errors import BadModel
from jobs.listening import CannotListen, probe

MAX_DESCRIPTORS = 65_536

NO_KEYS = """\
The API would listen on {host}, and there are no API keys. Do one of these:
- make a key: infill keys create TENANT
- set INFILL_AUTH=on to start all the same; calls are refused until there is a key
- set INFILL_AUTH=off to serve anyone who reaches that address
- set INFILL_HOST=127.0.0.1 to serve this machine alone"""


class Server(uvicorn.Server):
    """Has held calls answer, and uploads end, as soon as the process is asked to stop; uvicorn then waits for them."""

    def __init__(self, config: uvicorn.Config, backend: Backend) -> None:
        super().__init__(config)
        self.backend = backend

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.backend.changes.release()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.backend.bodies.stop()
        await super().shutdown(sockets)


def _has_keys(backend: Backend) -> bool:
    """Whether there is an API key, or Redis cannot be asked: each call is checked anyway."""
    try:
        return ApiKeys(backend.queue.connection).exist()
    except RedisError:
        return True


def _exit(_sig: int, _frame: FrameType | None) -> None:
    """uvicorn raises the signal it stopped for once more after its clean end, which would look like a death by it."""
    sys.exit(0)


def _allow_descriptors() -> None:
    """Each connection needs a descriptor, each large upload two; many systems allow 1,024 unless asked for more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    settings = begin(ApiSettings)
    _allow_descriptors()
    try:
        probe(settings.host, settings.port)
        app = create_app(settings)
    except CannotListen as error:
        sys.exit(f"INFILL_HOST, INFILL_PORT: {error}")
    except BadModel as error:
        sys.exit(f"INFILL_CATALOG: {error}")
    backend: Backend = app.state.backend
    if settings.auth == "auto" and settings.asks_for_keys and not _has_keys(backend):
        sys.exit(NO_KEYS.format(host=settings.host))
    config = uvicorn.Config(
        app,
        http=cast(Any, Connections(settings, backend.metrics).protocol),
        ws="none",
        proxy_headers=False,  # the app reads them, from INFILL_TRUSTED_PROXIES
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy keeps its idle connections, so that the proxy closes them first
        timeout_graceful_shutdown=30,
    )
    Server(config, backend).run()


if __name__ == "__main__":
    main()
