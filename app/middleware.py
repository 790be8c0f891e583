"""Around every request: its id, its log line, its metrics, and a problem for what nobody expected."""

import logging
import re
import time
import traceback
import uuid
from typing import Any

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics
from app.problems import http_problem, problem_response
from app.submission_route import makes_jobs
from jobs.errors import InfillError

logger = logging.getLogger("infill.api")

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""An id from outside must fit this; it goes into logs and headers."""

DEFAULT_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
PAGES = ("/docs", "/redoc")
OPENAPI_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'"
)
"""What the pages of ``fastapi_offline`` need: a script of their own, styles set by scripts, ReDoc's search worker."""


class RootPath:
    """Serves all below a path, whether a proxy in front strips it from requests or not (ASGI: ``root_path``)."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            whole = path if f"{path}/".startswith(f"{self.root_path}/") else self.root_path + path
            scope = dict(scope, root_path=self.root_path, path=whole)
        await self.app(scope, receive, send)


class RequestContext:
    """Pure ASGI, so that streams and waiting calls pass through untouched."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        try:
            with exchange.cut_short:
                await self.app(exchange.scope, receive, exchange.send)
        except Exception as error:
            exchange.log_crash(error)
            await exchange.answer_crash()
        finally:
            exchange.finish(self.metrics)


class _Exchange:
    """One request and its response. HEAD is answered as GET is, up to the headers."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method = scope["method"]
        self.scope = dict(scope, method="GET") if self.method == "HEAD" else scope
        self.receive, self._send = receive, send
        self.cut_short = anyio.CancelScope()
        self.began = time.perf_counter()
        self.status: int | None = None
        self.replaced = False
        self.request = Request(self.scope)
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.request.state.request_id = self.request_id

    async def send(self, message: Message) -> None:
        if self.cut_short.cancel_called:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-ID"] = self.request_id
            if allowance := getattr(self.request.state, "allowance", None):
                headers.update(allowance.headers)
            for name, value in DEFAULT_HEADERS.items():
                headers.setdefault(name, value)
            if "etag" not in headers:  # what has one says for how long it may be kept
                headers.setdefault("Cache-Control", "no-store")
            if self.scope["path"].removeprefix(self.scope.get("root_path", "")) in PAGES:
                headers["Content-Security-Policy"] = OPENAPI_POLICY
            if self.status >= 400 and headers.get("content-type", "").startswith("text/plain"):
                self.replaced = True  # by the framework itself: its body limit, and ranges of files
                await self._answer_with_problem(headers)
        if not self.replaced:
            await self._send(message)
        if self.method == "HEAD" and self.status is not None:
            await self._send({"type": "http.response.body", "body": b""})
            self.cut_short.cancel()  # an event stream would go on

    async def _answer_with_problem(self, headers: MutableHeaders) -> None:
        assert self.status is not None
        kept = {name: headers[name] for name in ("Content-Range", *DEFAULT_HEADERS, "Cache-Control") if name in headers}
        response = http_problem(self.request, self.status, "Range: send it as bytes=0-99, or not at all.", kept)
        response.headers["X-Request-ID"] = self.request_id
        await response(self.scope, self.receive, self._send)

    def log_crash(self, error: Exception) -> None:
        """Types and places only: an error's text may quote the request."""
        last = traceback.extract_tb(error.__traceback__)[-3:]
        where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in last]
        logger.error("unexpected_error", extra={**self._ids(), "error": type(error).__name__, "where": where})

    async def answer_crash(self) -> None:
        if self.status is None:
            sentence = "An error that was not expected. It has been logged under this request id."
            response = problem_response(self.request, InfillError(sentence))
            await response(self.scope, self.receive, self.send)

    def finish(self, metrics: Metrics) -> None:
        seconds = time.perf_counter() - self.began
        route = getattr(self.scope.get("route"), "path", "unmatched")
        method = self.method if route != "unmatched" else "any"
        status = self.status or 499  # the client went away before there was an answer
        metrics.requests.labels(route, method, str(status)).inc()
        metrics.seconds.labels(route, method).observe(seconds)
        ids = self._ids()
        if makes_jobs(self.request) and ids["code"] and not ids["job_id"]:
            metrics.refused.labels(ids["code"]).inc()
        if route == "/v1/jobs/{job_id}" and method == "DELETE" and ids["code"]:
            metrics.canceled.labels(ids["code"]).inc()
        level = logging.DEBUG if route in ("/healthz", "/readyz", "/metrics") else logging.INFO
        fields = {"method": method, "route": route, "status": status, "duration_ms": round(seconds * 1000, 1)}
        logger.log(level, "request", extra={**ids, **fields})

    def _ids(self) -> dict[str, Any]:
        state = self.request.state
        job_id = getattr(state, "job_id", None) or self.scope.get("path_params", {}).get("job_id")
        return {"request_id": self.request_id, "job_id": job_id, "code": getattr(state, "code", None)}
