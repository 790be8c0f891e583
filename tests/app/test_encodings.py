"""Wherever a request's bytes could choose a codec or a parser: one is taken, all else is refused before it is read."""

import gzip
import http.client
import json
import time

import pytest
from redis import Redis

from app.content_types import _QUOTED, spellings
from tests.app.multipart import KIND, MASK, PAIR, body, file, named, part
from tests.app.processes import ApiProcess
from tests.app.settling import our_keys

WHOLE = body(*PAIR)


def post(api: ApiProcess, headers: list[tuple[str, str]], content: bytes = WHOLE) -> tuple[int, str, str]:
    """Status, code and detail of a submission with exactly these headers."""
    connected = http.client.HTTPConnection(api.url.removeprefix("http://"))
    connected.putrequest("POST", "/v1/inpaint", skip_accept_encoding=True)
    for name, value in headers:
        connected.putheader(name, value.encode("latin-1"))
    if not any(name == "Transfer-Encoding" for name, _ in headers):
        connected.putheader("Content-Length", str(len(content)))
    connected.endheaders(content)
    response = connected.getresponse()
    answer = json.loads(response.read())
    connected.close()
    return response.status, answer.get("code", ""), answer.get("detail", "")


NOT_UTF_8 = [
    "; charset=utf-7",
    "; charset=iso-8859-1",
    "; charset=us-ascii",
    ";CHARSET = utf-16",
    '; charset="utf-7"',
    "; charset='utf-8'",
    '; charset="\\utf-8"',
    "; charset=\xff",
    "; charset=",
    "; charset",
    "; charset*=utf-8''utf-8",
    "; charset*0=utf-7; charset*1=x",
    "; charset=utf-7; charset=utf-8",
    "; charset=utf-8; charset=utf-8",
    "; charset=utf-8; charset*=utf-8''utf-7",
]


@pytest.mark.parametrize("charset", NOT_UTF_8)
def test_a_body_in_a_charset_other_than_utf_8_is_a_415(api: ApiProcess, connection: Redis, charset: str) -> None:
    status, code, detail = post(api, [("Content-Type", KIND + charset)], b"no form at all")
    assert (status, code) == (415, "unsupported_charset")
    assert detail.startswith("Content-Type: ") and "Send UTF-8" in detail
    assert not our_keys(connection)


@pytest.mark.parametrize(
    "parameter", ["; charset=UTF-8", '; charset="utf-8"', '; of="; charset=utf-7"', "; charsets=x"]
)
def test_utf_8_and_what_names_no_charset_are_taken(api: ApiProcess, parameter: str) -> None:
    assert post(api, [("Content-Type", KIND + parameter)])[0] == 202


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        (["multipart/form-data; boundary=x; charset=utf-7", KIND], "2 headers Content-Type"),
        ([KIND, "application/json"], "2 headers Content-Type"),
        ([f"{KIND}; boundary=x"], "several boundaries"),
        ([f"{KIND}; boundary*=utf-8''y"], "several boundaries"),
        (["multipart/form-data; boundary*=x"], "it names no boundary"),
    ],
)
def test_a_type_that_leaves_the_parser_open_is_malformed(api: ApiProcess, headers: list[str], sentence: str) -> None:
    status, code, detail = post(api, [("Content-Type", header) for header in headers])
    assert (status, code) == (400, "malformed_request") and sentence in detail


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate, gzip", "identity, gzip", "x" * 3000])
def test_a_compressed_body_is_a_415(api: ApiProcess, connection: Redis, encoding: str) -> None:
    for content in (gzip.compress(WHOLE), WHOLE):
        status, code, detail = post(api, [("Content-Type", KIND), ("Content-Encoding", encoding)], content)
        assert (status, code) == (415, "unsupported_encoding")
        assert "Content-Encoding: " in detail and "Send the body as it is" in detail
    assert not our_keys(connection)


def test_an_encoding_beside_another_is_a_415(api: ApiProcess) -> None:
    headers = [("Content-Type", KIND), ("Content-Encoding", "identity"), ("Content-Encoding", "gzip")]
    assert post(api, headers)[:2] == (415, "unsupported_encoding")
    assert post(api, headers[:2])[0] == 202


def test_a_transfer_encoding_beside_chunks_is_a_415(api: ApiProcess) -> None:
    chunks = f"{len(WHOLE):x}\r\n".encode() + WHOLE + b"\r\n0\r\n\r\n"
    kind = ("Content-Type", KIND)
    assert post(api, [kind, ("Transfer-Encoding", "gzip, chunked")], chunks)[:2] == (415, "unsupported_encoding")
    assert post(api, [kind, ("Transfer-Encoding", "Chunked")], chunks)[0] == 202


@pytest.mark.parametrize("encoding", ["gzip", "identity", "chunked, identity"])
def test_a_transfer_encoding_without_chunks_is_malformed(api: ApiProcess, encoding: str) -> None:
    headers = [("Content-Type", KIND), ("Transfer-Encoding", encoding)]
    assert post(api, headers, b"")[:2] == (400, "malformed_request")


@pytest.mark.parametrize("header", [("Accept-Charset", "utf-7"), ("Accept-Encoding", "br, identity;q=0")])
def test_a_wish_for_an_encoding_of_the_answer_changes_nothing(api: ApiProcess, header: tuple[str, str]) -> None:
    assert post(api, [("Content-Type", KIND), header])[0] == 202


def test_a_form_cannot_name_a_charset_for_its_other_fields(api: ApiProcess) -> None:
    content = body(*PAIR, part(b"utf-7", named("_charset_")))
    assert post(api, [("Content-Type", KIND)], content)[1] == "unknown_field"


def test_a_compressed_file_is_named(api: ApiProcess) -> None:
    content = body(file("image", gzip.compress(MASK)), PAIR[1])
    assert "gzip file" in post(api, [("Content-Type", KIND)], content)[2]


@pytest.mark.parametrize("target", ["/v1/jobs/\xff", "/v1/models?\xff=1", "/v1/inpaint?a=\xff"])
def test_an_address_in_bytes_that_are_no_ascii_is_malformed(api: ApiProcess, target: str) -> None:
    connected = http.client.HTTPConnection(api.url.removeprefix("http://"))
    connected._encode_request = lambda request: request.encode("latin-1")  # type: ignore[attr-defined]  # not in typeshed
    connected.putrequest("GET", target)
    connected.endheaders()
    assert (connected.getresponse().status) == 400
    connected.close()


@pytest.mark.parametrize("header", [b'"' + b'a\\"' * 20_000, b'"' * 65_000, b"; " * 30_000, b";charset*" * 7_000])
def test_the_time_to_look_for_a_parameter_grows_with_the_header_and_not_faster(header: bytes) -> None:
    began = time.process_time()
    _QUOTED.sub(b"", header)
    spellings(header, b"charset")
    assert time.process_time() - began < 1  # the first took 11 s while each quote looked at all the rest
