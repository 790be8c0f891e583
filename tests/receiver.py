"""A server on loopback that keeps what it is sent and answers as it is told."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """``statuses``: of the next answers; the last one stays."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    content: bytes = b""
    location: str = ""
    drip_s: float = 0
    received: list[Received] = field(default_factory=list)

    def wait(self, count: int = 1, timeout_s: float = 20) -> list[Received]:
        deadline = time.monotonic() + timeout_s
        while len(self.received) < count:
            assert time.monotonic() < deadline, f"{len(self.received)} of {count} have come"
            time.sleep(0.02)
        return self.received


@contextmanager
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.received.append(Received(self.command, self.path, dict(self.headers), body))
            self.send_response(made.statuses.pop(0) if len(made.statuses) > 1 else made.statuses[0])
            self.send_header("Content-Length", str(len(made.content)))
            if made.location:
                self.send_header("Location", made.location)
            self.end_headers()
            for byte in made.content if made.drip_s else b"":
                self.wfile.write(bytes([byte]))
                time.sleep(made.drip_s)
            if not made.drip_s:
                self.wfile.write(made.content)

        do_GET = do_PUT = do_POST = handle_any  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
