"""What a caller can hold of the process: connections, header bytes, time; with real sockets."""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from app.connections import MAX_FRAMING_BYTES, MAX_HEAD_BYTES, MAX_PIPELINED
from tests.app.processes import ApiProcess, api_process
from tests.app.settling import Settler
from tests.app.sockets import Caller, post_head, problem_of
from tests.app.submissions import files
from tests.app.waiting import until
from tests.redis_server import RedisServer

CONNECTIONS = 20
KERNEL_BYTES = 16 * 2**20
"""Room for what the two sockets' buffers take before the other side's end is seen."""


@pytest.fixture(scope="module")
def held(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API with little patience."""
    limits = {"max_connections": CONNECTIONS, "client_timeout_s": 0.4, "send_timeout_s": 0.5}
    with api_process(tmp_path_factory.mktemp("held"), redis_server.url, **limits) as api:
        yield api


def peak_bytes(api: ApiProcess) -> int:
    """The most memory that the process has had."""
    status = Path(f"/proc/{api.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def cpu_s(api: ApiProcess) -> float:
    fields = Path(f"/proc/{api.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_sockets(api: ApiProcess) -> int:
    found = 0
    for entry in Path(f"/proc/{api.process.pid}/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(entry).startswith("socket:")  # noqa: PTH115  # it is no path
    return found


HEADS = {
    "one endless header": itertools.chain([b"GET / HTTP/1.1\r\nX: "], itertools.repeat(b"a" * 8192)),
    "endless headers": itertools.chain([b"GET / HTTP/1.1\r\n"], itertools.repeat(b"a: b\r\n" * 1000)),
    "an endless name": itertools.chain([b"GET / HTTP/1.1\r\n"], itertools.repeat(b"a" * 8192)),
    "an endless address": itertools.chain([b"GET /"], itertools.repeat(b"a" * 8192)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_headers_without_end_are_refused_before_they_take_memory(held: ApiProcess, kind: str) -> None:
    before, used = peak_bytes(held), cpu_s(held)
    with Caller(held) as caller:
        answer = caller.send_until_closed(HEADS[kind])
        assert caller.sent < MAX_HEAD_BYTES + KERNEL_BYTES
    if answer:  # what the client still sent can have reset the connection
        assert problem_of(answer) in [(431, "headers_too_large"), (400, "malformed_request")]
    assert peak_bytes(held) - before < 8 * 2**20
    assert cpu_s(held) - used < 1


def test_headers_just_beyond_the_limit_are_answered_431(held: ApiProcess) -> None:
    with Caller(held) as caller:
        caller.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"a" * MAX_HEAD_BYTES)
        assert problem_of(caller.read_all()) == (431, "headers_too_large")


def test_a_page_of_an_allowed_origin_reads_refusals_of_the_connection_itself(tmp_path: Path, redis_url: str) -> None:
    origins, big = "https://a.example,https://b.example", b"X: " + b"a" * MAX_HEAD_BYTES
    with api_process(tmp_path, redis_url, cors_origins=origins, client_timeout_s=0.4) as api:
        for origin, allowed in (("https://b.example", True), ("https://evil.example", False)):
            line = f"\r\naccess-control-allow-origin: {origin}\r\nvary: Origin\r\n".encode()
            head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nOrigin: " + origin.encode() + b"\r\nA: b\r\n"
            for rest, status in ((big, b"431"), (b"a b: c\r\n", b"400"), (b"", b"408")):
                with Caller(api) as caller:
                    caller.send(head + rest)
                    answer = caller.read_all()
                assert answer.split()[1] == status and (line in answer) is allowed, answer
            with Caller(api) as caller:
                kind = b"Content-Type: multipart/form-data; boundary=x"
                long = b"POST /v1/inpaint HTTP/1.1\r\n" + kind + b"\r\nContent-Length: 99999999999"
                caller.send(head.replace(b"GET /healthz HTTP/1.1", long) + b"\r\n")
                answer = caller.read_all()
                assert answer.split()[1] == b"413"
                assert (f"access-control-allow-origin: {origin}".encode() in answer) is allowed


def test_large_headers_within_the_limit_are_fine(held: ApiProcess) -> None:
    assert httpx.get(f"{held.url}/healthz", headers={"X-Long": "a" * 60_000}).status_code == 200


def test_what_is_not_http_is_a_problem_too(held: ApiProcess) -> None:
    with Caller(held) as caller:
        caller.send(b"HELO example\r\n\r\n")
        assert problem_of(caller.read_all()) == (400, "malformed_request")


def test_headers_that_trickle_are_answered_408(held: ApiProcess) -> None:
    with Caller(held) as caller:
        trickle = itertools.chain([b"GET /healthz HTTP/1.1\r\n"], (b"X-%d: y\r\n" % k for k in range(1000)))
        assert problem_of(caller.send_until_closed(trickle, pause_s=0.05)) == (408, "request_timeout")


def test_a_connection_that_brings_nothing_is_closed(held: ApiProcess) -> None:
    with Caller(held) as caller:
        assert caller.read_all() == b""


def test_empty_lines_between_requests_hold_no_connection(held: ApiProcess) -> None:
    with Caller(held) as caller:
        caller.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert caller.read_answer()[0] == 200
        assert caller.send_until_closed(itertools.repeat(b"\r\n", 1000), pause_s=0.05) == b""
        assert caller.sent < 2000


def test_a_second_request_that_trickles_is_answered_408(held: ApiProcess) -> None:
    with Caller(held) as caller:
        caller.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /heal")
        assert caller.read_answer()[0] == 200
        assert problem_of(caller.read_all()) == (408, "request_timeout")


def test_a_connection_between_requests_stays_open(held: ApiProcess) -> None:
    with Caller(held) as caller:
        for _ in range(2):
            caller.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert caller.read_answer()[0] == 200
            time.sleep(0.8)


@pytest.mark.parametrize("length", [10_000_000, None])
def test_a_body_that_goes_on_after_its_answer_is_cut_off(held: ApiProcess, length: int | None) -> None:
    pieces = itertools.repeat(b"4\r\nabcd\r\n" if length is None else b"abcd", 1000)
    with Caller(held) as caller:
        caller.send(post_head(length, "/nothing"))
        assert caller.read_answer()[0] == 404
        assert caller.send_until_closed(pieces, pause_s=0.05) == b""
        assert caller.sent < 5000


FRAMINGS = {
    "chunks of one byte": b"1\r\nx\r\n" * 1000,
    "an endless chunk extension": b"a" * 6000,
    "trailers": b"x: y\r\n" * 1000,
}


@pytest.mark.parametrize("kind", FRAMINGS)
def test_a_body_that_is_nearly_all_framing_is_refused(held: ApiProcess, kind: str) -> None:
    begin = {"an endless chunk extension": b"1;", "trailers": b"0\r\n"}.get(kind, b"")
    before, used = peak_bytes(held), cpu_s(held)
    with Caller(held) as caller:
        caller.send(post_head(None) + begin)
        answer = caller.send_until_closed(itertools.repeat(FRAMINGS[kind], 20_000))
        assert caller.sent < MAX_FRAMING_BYTES + KERNEL_BYTES
    assert not answer or problem_of(answer)[0] == 400
    assert peak_bytes(held) - before < 8 * 2**20
    assert cpu_s(held) - used < 1


def test_requests_far_ahead_of_their_answers_are_refused(held: ApiProcess) -> None:
    before = peak_bytes(held)
    with Caller(held) as caller:
        answer = caller.send_until_closed(itertools.repeat(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 500, 100))
    assert answer.count(b'"ok"') <= 2 * MAX_PIPELINED
    assert peak_bytes(held) - before < 8 * 2**20


def test_a_few_requests_at_once_are_answered_in_their_order(held: ApiProcess) -> None:
    with Caller(held) as caller:
        caller.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /problems/crashed HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [caller.read_answer()[2][:10] for _ in range(2)] == [b'{"status":', b'{"code":"c']


def test_idle_connections_beyond_the_limit_are_answered_503_and_leave_room_for_others(held: ApiProcess) -> None:
    until(lambda: open_sockets(held) < 8)
    with ExitStack() as stack:
        callers = [stack.enter_context(Caller(held)) for _ in range(2 * CONNECTIONS)]
        with Caller(held, "127.0.0.2") as other:
            other.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert other.read_answer()[0] == 200
        answers = [caller.read_all() for caller in callers]
    refused = [answer for answer in answers if answer]
    assert len(refused) >= CONNECTIONS + 1
    assert {problem_of(answer) for answer in refused} == {(503, "too_many_connections")}
    assert b"retry-after: 5" in refused[0]
    metrics = httpx.get(f"{held.url}/metrics").text
    assert 'infill_connections_refused_total{code="too_many_connections"}' in metrics


def test_an_answer_that_nobody_reads_is_given_up(held: ApiProcess, settler: Settler) -> None:
    job_id = httpx.post(f"{held.url}/v1/inpaint", files=files()).json()["id"]
    settler.start(job_id)
    settler.succeed(job_id, [b"x" * 2**25])
    with Caller(held) as caller:
        caller.send(f"GET /v1/jobs/{job_id}/images/0 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: "images/{index}" in held.log_text())
        before = open_sockets(held)
        until(lambda: open_sockets(held) < before)
        assert len(caller.read_all()) < 2**25


def test_a_websocket_is_no_way_around_the_limits(held: ApiProcess) -> None:
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    with Caller(held) as caller:
        caller.send(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode())
        assert caller.read_answer()[0] == 200


def test_a_trusted_proxys_connections_are_those_of_many_callers(redis_url: str, tmp_path: Path) -> None:
    limits = {"max_connections": 10, "caller_share": 0.5, "trusted_proxies": "127.0.0.0/30"}
    with api_process(tmp_path, redis_url, **limits) as api, ExitStack() as stack:
        until(lambda: open_sockets(api) < 10)
        callers = [stack.enter_context(Caller(api, source)) for source in ["127.0.0.1"] * 8 + ["127.0.0.9"] * 5]
        for caller in callers[:8]:
            caller.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert caller.read_answer()[0] == 200
        refused = [caller for caller in callers[8:] if caller.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")]
        statuses = [caller.read_answer()[0] for caller in refused]
        assert statuses.count(200) <= 2 and 503 in statuses
