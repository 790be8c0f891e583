"""The client and a server that is busy, away, behind a proxy or slow: a real one, with scripted answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import anyio
import pytest

from infill_client import AsyncClient, Client, Job, JobEnded, NoAnswer, Problem, TimedOut
from tests.infill_client.jobs import IMAGE, JOB, SUCCEEDED

BUSY = (429, {"code": "queue_full", "detail": "The queue is full."}, {"Retry-After": "0"})

Answer = tuple[int, Any, dict[str, str]]
"""Status, JSON or bytes, headers. Status 0: the connection is cut."""


@dataclass
class Script:
    """The answers of a server, one a request, and the requests that it had."""

    answers: list[Answer]
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    servers = []

    def start(*answers: Answer) -> Script:
        made = Script(list(answers))

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                made.requests.append((self.command, self.path, dict(self.headers), body))
                status, content, headers = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
                if not status:
                    self.close_connection = True
                    return
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(data))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = handle_any  # noqa: N815  # http.server's names

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        made.url = f"http://127.0.0.1:{server.server_port}"
        return made

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("fault", [BUSY, (503, b"<html>Bad gateway", {}), (0, b"", {})], ids=["busy", "proxy", "cut"])
def test_a_submission_is_tried_again_under_the_same_key(script: Callable[..., Script], fault: Answer) -> None:
    server = script(fault, (202, JOB, {}))
    with Client(server.url, "secret") as client:
        assert client.submit(b"photo", b"mask", prompt="a", seed=3, loras=[{"name": "x"}]).id == "a"
    (_, path, first, body), (_, _, second, again) = server.requests
    assert path == "/v1/inpaint" and first["Idempotency-Key"] == second["Idempotency-Key"]
    assert first["Authorization"] == "Bearer secret"
    for part in (b'name="seed"\r\n\r\n3\r\n', b'name="prompt"\r\n\r\na\r\n', b'[{"name": "x"}]', b"photo", b"mask"):
        assert part in body and part in again


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((422, {"code": "empty_mask", "detail": "mask: it is empty."}, {}), "empty_mask"),
        ((413, b"<html>too large</html>", {}), "no_problem_json"),
        ((429, {"code": "rate_limited", "detail": "Later."}, {"Retry-After": "86400"}), "rate_limited"),
        ((400, [], {}), "no_problem_json"),
    ],
)
def test_what_another_try_cannot_mend_is_raised_at_once(
    script: Callable[..., Script], answer: Answer, code: str
) -> None:
    server = script(answer)
    with Client(server.url) as client, pytest.raises(Problem) as caught:
        client.submit(b"photo", b"mask")
    assert (caught.value.code, caught.value.status, len(server.requests)) == (code, answer[0], 1)


def test_after_six_tries_the_last_answer_is_raised(script: Callable[..., Script]) -> None:
    server = script(BUSY)
    with Client(server.url) as client, pytest.raises(Problem, match="full"):
        client.job("a")
    assert len(server.requests) == 6


def test_a_server_that_is_not_there_is_no_answer() -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(NoAnswer, match="GET /v1/jobs/a"):
        client.job("a")


def test_an_edit_waits_until_the_job_has_ended_and_fetches_its_image(script: Callable[..., Script]) -> None:
    server = script((202, JOB, {}), (200, JOB, {}), (200, SUCCEEDED, {}), (200, b"png", {}))
    with Client(server.url) as client:
        result = client.edit(b"photo", b"mask")
    assert result.images == (b"png",) and result.job.ended
    assert [path for _, path, _, _ in server.requests][-1] == IMAGE["url"]
    assert server.requests[0][2]["Prefer"] == "wait=25"


def test_the_asynchronous_client_does_the_same(script: Callable[..., Script]) -> None:
    events = f"data: {json.dumps(SUCCEEDED)}\n\n".encode()
    server = script(
        *(BUSY, (202, JOB, {}), (200, SUCCEEDED, {}), (200, b"png", {})),
        (200, events, {"Content-Type": "text/event-stream"}),
    )

    async def run() -> tuple[bytes, list[str]]:
        async with AsyncClient(server.url) as client:
            image = (await client.edit(b"photo", b"mask")).images[0]
            return image, [job.status async for job in client.follow("a")]

    assert anyio.run(run) == (b"png", ["succeeded"])


def test_a_job_that_takes_too_long_goes_on_and_is_named(script: Callable[..., Script]) -> None:
    server = script((202, JOB, {}))
    with Client(server.url) as client, pytest.raises(TimedOut, match="Job a is queued") as caught:
        client.edit(b"photo", b"mask", timeout_s=0.1)
    assert caught.value.job.id == "a"


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        ({"status": "failed", "error": {"code": "crashed", "message": "It died."}}, "Job a failed: It died."),
        ({"status": "canceled"}, "The job is canceled."),
    ],
)
def test_a_job_without_a_picture_is_an_error_with_its_reason(end: dict[str, Any], sentence: str) -> None:
    with closing(Client()) as client, pytest.raises(JobEnded) as caught:
        client.result(Job.model_validate(JOB | end))
    assert str(caught.value) == sentence


def test_events_are_followed_over_a_cut_to_the_end(script: Callable[..., Script]) -> None:
    def events(*jobs: dict[str, Any]) -> bytes:
        return "".join(f"event: progress\ndata: {json.dumps(job)}\n\n" for job in jobs).encode()

    sse = {"Content-Type": "text/event-stream"}
    cut = sse | {"Content-Length": "100000"}
    server = script((200, events(JOB), cut), (200, events(JOB | {"status": "running"}, SUCCEEDED), sse))
    with Client(server.url) as client:
        assert [job.status for job in client.follow("a")] == ["queued", "running", "succeeded"]


def test_events_of_a_job_that_is_not_there_are_a_problem(script: Callable[..., Script]) -> None:
    server = script((404, {"code": "job_not_found", "detail": "There is no job."}, {}))
    with Client(server.url) as client, pytest.raises(Problem, match="no job"):
        list(client.follow("a"))


def test_fields_that_a_newer_service_adds_are_kept() -> None:
    assert Job.model_validate(JOB | {"deliveries": [1]}).deliveries == [1]  # type: ignore[attr-defined]


def test_lists_are_read_page_by_page(script: Callable[..., Script]) -> None:
    pages = [{"jobs": [JOB | {"id": name}], "next": cursor} for name, cursor in (("a", "1-a"), ("b", None))]

    async def names(url: str) -> list[str]:
        async with AsyncClient(url) as client:
            return [job.id async for job in client.jobs()]

    server = script(*((200, page, {}) for page in pages))
    with Client(server.url) as client:
        assert [job.id for job in client.jobs("failed", 1)] == ["a", "b"]
    paths = [path for _, path, _, _ in server.requests]
    assert paths == ["/v1/jobs?limit=1&status=failed", "/v1/jobs?limit=1&cursor=1-a&status=failed"]
    server.answers = [(200, page, {}) for page in pages]
    assert anyio.run(names, server.url) == ["a", "b"]
