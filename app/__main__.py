"""``python -m app``: serve the API. SIGTERM and Ctrl-C let calls that are being answered finish."""

import resource
import signal
import socket
import sys
from types import FrameType
from typing import Any, cast

import uvicorn

from app.connections import Connections
from app.main import create_app
from app.service import Service
from app.settings import ApiSettings
from jobs.logs import configure_logs

MAX_DESCRIPTORS = 65_536


class Server(uvicorn.Server):
    """Has held calls answer, and uploads end, as soon as the process is asked to stop; uvicorn then waits for them."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.service.changes.release()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.bodies.stop()
        await super().shutdown(sockets)


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
    settings = ApiSettings()
    configure_logs(settings.log_level)
    _allow_descriptors()
    app = create_app(settings)
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        http=cast(Any, Connections(settings, service.metrics).protocol),
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
    Server(config, service).run()


if __name__ == "__main__":
    main()
