"""Bodies that come slowly, or too many at once; with real sockets."""

import itertools
import json
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydantic import ValidationError

from app.settings import MIB, ApiSettings
from tests.app.pictures import box_mask
from tests.app.processes import ApiProcess, api_process, spooled_files, submitted
from tests.app.sockets import Caller, parsed, post, post_head, problem_of
from tests.app.submissions import files
from tests.app.waiting import until
from tests.factories import encoded
from tests.redis_server import RedisServer

FILE_BYTES = 1_500_000
INFLIGHT = 6_000_000
PART = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


@pytest.fixture(scope="module")
def slow(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API that wants 10,000 bytes each 0.5 s, each body within 3 s, and 6 MB at once."""
    limits = {
        "max_image_bytes": FILE_BYTES,
        "max_mask_bytes": FILE_BYTES,
        "batch_bytes": FILE_BYTES,
        "max_inflight_bytes": INFLIGHT,
        "client_timeout_s": 0.5,
        "min_body_rate": 20_000,
        "body_timeout_s": 3.0,
    }
    with api_process(tmp_path_factory.mktemp("slow"), redis_server.url, **limits) as api:
        yield api


@pytest.mark.parametrize("length", [1_000_000, None])
def test_a_body_that_trickles_is_answered_408_and_the_connection_ends(slow: ApiProcess, length: int | None) -> None:
    pieces = itertools.repeat(b"64\r\n" + b"a" * 100 + b"\r\n" if length is None else b"a" * 100, 1000)
    with Caller(slow) as caller:
        caller.send(post_head(length) + (b"" if length is None else PART))
        if length is None:
            caller.send(b"%x\r\n" % len(PART) + PART + b"\r\n")
        assert problem_of(caller.send_until_closed(pieces, pause_s=0.05)) == (408, "request_timeout")
        assert caller.sent < 10_000


def test_a_body_that_comes_fast_at_first_and_then_trickles_is_answered_408(slow: ApiProcess) -> None:
    with Caller(slow) as caller:
        caller.send(post_head(2_000_000) + PART + b"a" * 1_000_000)
        assert problem_of(caller.send_until_closed(itertools.repeat(b"a", 1000), pause_s=0.05)) == (
            408,
            "request_timeout",
        )


def test_a_body_that_never_comes_is_answered_408(slow: ApiProcess) -> None:
    with Caller(slow) as caller:
        caller.send(post_head(1000))
        assert problem_of(caller.read_all()) == (408, "request_timeout")


def test_a_body_at_the_least_rate_has_a_longest_time(slow: ApiProcess) -> None:
    with Caller(slow) as caller:
        caller.send(post_head(2_000_000) + PART)
        answer = caller.send_until_closed(itertools.repeat(b"a" * 4000, 500), pause_s=0.05)
        assert problem_of(answer) == (408, "request_timeout")
        assert 100_000 < caller.sent < 1_000_000


def test_a_body_that_pauses_and_comes_in_time_is_accepted(slow: ApiProcess) -> None:
    request = post(files())
    with Caller(slow) as caller:
        caller.send(request[:500])
        caller.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.socket.recv(1)
        caller.socket.settimeout(30)
        caller.send(request[500:])
        assert caller.read_answer()[0] == 202


def test_unfinished_uploads_hold_no_more_bytes_than_the_limit_and_leave_room_for_others(slow: ApiProcess) -> None:
    with ExitStack() as stack:
        holders = [stack.enter_context(Caller(slow)) for _ in range(20)]
        for holder in holders:
            holder.send(post_head(2_500_000) + PART + b"a" * 1_000_000)
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
            assert other.post(f"{slow.url}/v1/inpaint", files=files()).status_code == 202
        answers = [holder.read_all() for holder in holders]
    codes = [problem_of(answer) for answer in answers if answer]
    assert codes.count((503, "too_many_uploads")) >= 20 - INFLIGHT // 1_000_000
    assert set(codes) <= {(503, "too_many_uploads"), (408, "request_timeout")}
    refused = next(answer for answer in answers if b"too_many_uploads" in answer)
    assert parsed(refused)[1]["retry-after"] == "2"
    assert httpx.post(f"{slow.url}/v1/inpaint", files=files()).status_code == 202, "all is given back"


def test_a_call_that_waits_holds_no_bytes(slow: ApiProcess) -> None:
    image = encoded(Image.effect_noise((1200, 1100), 90))
    assert 1_000_000 < len(image) < FILE_BYTES
    pair = files(image=image, mask=encoded(box_mask((1200, 1100), (2, 2, 9, 9))))
    before = submitted(slow)
    with ExitStack() as stack:
        for number in range(1, 9):
            stack.enter_context(Caller(slow)).send(post(pair, "Prefer: wait=30"))
            until(lambda number=number: submitted(slow) == before + number)
        until(lambda: "infill_upload_bytes 0.0" in httpx.get(f"{slow.url}/metrics").text)
        assert not spooled_files(slow)


def test_on_sigterm_an_upload_that_goes_on_is_refused_and_the_process_exits_0(redis_url: str, tmp_path: Path) -> None:
    with api_process(tmp_path, redis_url) as api, Caller(api) as caller:
        caller.send(post_head(60_000_000) + PART + b"a" * 1000)
        httpx.get(f"{api.url}/healthz")
        api.signal(signal.SIGTERM)
        answer = caller.send_until_closed(itertools.repeat(b"a" * 1000, 50_000), pause_s=0.05)
        assert problem_of(answer) == (503, "stopping")
        assert api.process.wait(30) == 0


@pytest.mark.parametrize(
    ("limit", "value", "error"), [("RLIMIT_FSIZE", 1_100_000, "EFBIG"), ("RLIMIT_NOFILE", None, "EMFILE")]
)
def test_an_upload_that_cannot_be_spooled_is_a_503_and_a_log_line(
    redis_url: str, tmp_path: Path, limit: str, value: int | None, error: str
) -> None:
    with api_process(tmp_path, redis_url) as api, httpx.Client(base_url=api.url) as client:
        assert client.post("/v1/inpaint", files=files(image=b"a" * 3_000_000)).status_code == 422
        until(lambda: not spooled_files(api))
        if value is None:
            used = {int(entry.name) for entry in Path(f"/proc/{api.process.pid}/fd").iterdir()}
            value = next(number for number in itertools.count() if number not in used)
        resource.prlimit(api.process.pid, getattr(resource, limit), (value, value))
        answer = client.post("/v1/inpaint", files=files(image=b"a" * 3_000_000))
        assert (answer.status_code, answer.json()["code"]) == (503, "spool_full")
        assert int(answer.headers["retry-after"]) > 0
        lines = [json.loads(line) for line in api.log_text().splitlines()]
        assert [line["error"] for line in lines if line["event"] == "spool_full"] == [error]
        assert client.get("/healthz").status_code == 200


def test_a_limit_that_no_body_fits_in_stops_the_start_with_the_least_that_would() -> None:
    with pytest.raises(ValidationError, match=f"set at least {round((96 + 1) * MIB / 0.95 + 0.5)}"):
        ApiSettings(max_inflight_bytes=MIB)


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-16", "latin1", "x" * 60_000, "utf-8; charset=idna"])
def test_a_charset_other_than_utf_8_costs_nothing(slow: ApiProcess, charset: str) -> None:
    head = (
        f"POST /v1/inpaint HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x; charset={charset}\r\n"
    )
    with Caller(slow) as caller:  # the body is not even waited for
        caller.send(f"{head}Content-Length: 65000\r\n\r\n".encode())
        status, _, body = caller.read_answer()
        assert (status, json.loads(body)["code"]) == (415, "unsupported_charset")
