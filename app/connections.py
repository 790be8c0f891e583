"""Connections that nobody can hold for nothing: bounded in number, in header bytes, and in the time they take."""

import asyncio
import uuid
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.callers import normal_address
from app.metrics import Metrics
from app.problems import MEDIA_TYPE, bare_problem
from app.settings import ApiSettings
from app.shares import Shares

MAX_HEAD_BYTES = 65_536
"""Request line and headers of one request."""
MAX_FRAMING_BYTES = 16_384
"""Chunk sizes, chunk extensions and trailers of one body, beside an eighth of its bytes."""
MAX_PIPELINED = 8
"""Requests that may come before the first of them is answered."""
PIECE_BYTES = 16_384
"""So much is parsed between two looks at what it came to."""
RETRY_AFTER_S = 5


@dataclass
class Connections:
    """The open connections of this process, and what they are held to."""

    settings: ApiSettings
    metrics: Metrics

    def __post_init__(self) -> None:
        self.shares = Shares(self.settings.max_connections, self.settings.caller_share)

    def protocol(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> Any:
        """What uvicorn calls for each connection."""
        return LimitedConnection(self, config, server_state, app_state, _loop)

    def caller_at(self, address: str) -> str:
        """Whose connection it is; each of a trusted proxy's counts as one of a caller of its own."""
        return uuid.uuid4().hex if self.settings.trusts(address) else normal_address(address)


class LimitedConnection(HttpToolsProtocol):
    """uvicorn's connection. It ends when the peer lets it wait: for a request's head, for the rest of a body that was
    answered already, or for room to send an answer. Bodies that are being read are ``app/bodies.py``'s."""

    def __init__(
        self, connections: Connections, config: Config, state: ServerState, app_state: dict[str, Any], loop: Any
    ) -> None:
        super().__init__(config, state, app_state, loop)
        self._connections = connections
        self._settings = connections.settings
        self._caller: str | None = None
        self._awaited: str | None = None  # "head" or "rest": what the deadline is for
        self._deadline: asyncio.TimerHandle | None = None
        self._send_check: asyncio.TimerHandle | None = None
        self._reading: str | None = None  # "head" or "body" of a request that has begun
        self._head_bytes = self._framing_bytes = self._body_bytes = 0

    # ---- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        caller = self._connections.caller_at(self.client[0] if self.client else "")
        if self._connections.shares.take(caller):
            self._caller = caller
            self._wait_for("head")
        else:
            self._refuse("too_many_connections", "Too many connections are open. Try again.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_for(None)
        if self._send_check is not None:
            self._send_check.cancel()
        self._unset_keepalive_if_required()
        if self._caller is not None:
            self._connections.shares.give_back(self._caller)
            self._caller = None
        super().connection_lost(exc)

    # ---- reading

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), PIECE_BYTES):
            if self.transport.is_closing():
                return
            piece = data[at : at + PIECE_BYTES]
            if self._reading == "body":
                self._framing_bytes += len(piece)
            else:
                self._head_bytes += len(piece)
            super().data_received(piece)
            self._check_sizes()
        self._look()

    def _check_sizes(self) -> None:
        if self.transport.is_closing():
            return
        if self._reading == "head" and self._head_bytes > MAX_HEAD_BYTES:
            limit = f"The request's line and headers are larger than {MAX_HEAD_BYTES} bytes."
            self._refuse("headers_too_large", limit)
        elif self._framing_bytes > MAX_FRAMING_BYTES + self._body_bytes // 8:
            self._refuse("malformed_request", "The body's chunks are too small, or its trailers too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading, self._framing_bytes, self._body_bytes = "head", 0, 0

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many pipelined requests")
        super().on_headers_complete()
        self._reading, self._head_bytes = "body", 0

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._framing_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading, self._head_bytes, self._framing_bytes = None, 0, 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()
        self._watch_sending()

    # ---- what is waited for

    def _look(self) -> None:
        """Set or lift the deadline by what the peer has to send now."""
        answered = self.cycle is None or self.cycle.response_complete
        idle = answered and self._reading is None and self.timeout_keep_alive_task is not None
        if self._reading == "body":
            self._wait_for("rest" if answered else None)
        else:
            self._wait_for("head" if self._reading or (answered and not idle) else None)

    def _wait_for(self, awaited: str | None) -> None:
        if awaited == self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if awaited is not None:
            self._deadline = self.loop.call_later(self._settings.client_timeout_s, self._time_is_over)

    def _time_is_over(self) -> None:
        if self._reading == "head":
            seconds = self._settings.client_timeout_s
            self._refuse("request_timeout", f"The request's headers did not arrive within {seconds:g} s.")
        else:
            self.transport.close()

    # ---- sending

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def _watch_sending(self) -> None:
        """Look again later whether the peer has read any of what is not sent yet."""
        if self._send_check is not None:
            self._send_check.cancel()
            self._send_check = None
        if unsent := self.transport.get_write_buffer_size():
            self._send_check = self.loop.call_later(self._settings.send_timeout_s, self._check_sending, unsent)

    def _check_sending(self, unsent: int) -> None:
        if self.transport.get_write_buffer_size() >= unsent:
            self.transport.abort()  # close would wait for what nobody reads
        else:
            self._watch_sending()

    # ---- refusing

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade is declined by answering as if it had not been asked for (RFC 9110, 7.8)."""

    def send_400_response(self, msg: str) -> None:
        self._refuse("malformed_request", "This is not HTTP/1.1, or not in a form that is taken.")

    def _refuse(self, code: str, detail: str) -> None:
        """Answer for the app, if it has not begun to, and close."""
        self._connections.metrics.connections_refused.labels(code).inc()
        if self._may_answer():
            problem = bare_problem(code, detail, uuid.uuid4().hex)
            body = problem.model_dump_json(exclude_none=True).encode()
            headers = {
                "content-type": MEDIA_TYPE,
                "content-length": str(len(body)),
                "connection": "close",
                "cache-control": "no-store",
                "x-content-type-options": "nosniff",
                "x-request-id": problem.request_id,
            }
            headers |= self._cors()
            if problem.status == 503:
                headers["retry-after"] = str(RETRY_AFTER_S)
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            status = f"{problem.status} {HTTPStatus(problem.status).phrase}"
            self.transport.write(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)
        self.transport.close()
        self._watch_sending()

    def _cors(self) -> dict[str, str]:
        """What lets a page of an allowed origin read it: its ``Origin`` where that has come, else the only one."""
        allowed, headers = self._settings.origins, dict(self.headers or ())
        origin = headers.get(b"origin", b"").decode("latin-1") or (allowed[0] if len(allowed) == 1 else "")
        if origin not in allowed:
            return {}
        return {"access-control-allow-origin": origin, "vary": "Origin"}

    def _may_answer(self) -> bool:
        """Whether an answer written now is the next one that the peer expects."""
        if self.cycle is None or self.pipeline:
            return self.cycle is None
        return not self.cycle.response_started or (self.cycle.response_complete and self._reading != "body")
