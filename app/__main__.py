"""``python -m app``: serve the API. SIGTERM and Ctrl-C let calls that are being answered finish."""

import signal
import sys
from types import FrameType

import uvicorn

from app.changes import Changes
from app.main import create_app
from app.settings import ApiSettings
from jobs.logs import configure_logs


class Server(uvicorn.Server):
    """Tells held calls to answer as soon as the process is asked to stop; uvicorn then waits for them."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self.changes = changes

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.changes.release()
        super().handle_exit(sig, frame)


def _exit(_sig: int, _frame: FrameType | None) -> None:
    """uvicorn raises the signal it stopped for once more after its clean end, which would look like a death by it."""
    sys.exit(0)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    settings = ApiSettings()
    configure_logs(settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than a proxy keeps its idle connections, so that the proxy closes them first
        timeout_graceful_shutdown=30,
    )
    Server(config, app.state.service.changes).run()


if __name__ == "__main__":
    main()
