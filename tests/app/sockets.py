"""Callers that do with a connection what no HTTP client does."""

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import httpx

from tests.app.processes import ApiProcess


class Caller:
    """One connection; ``source``: the address that it comes from, any of 127.0.0.0/8."""

    def __init__(self, api: ApiProcess, source: str = "127.0.0.1") -> None:
        host, port = api.url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30, source_address=(source, 0))
        self.sent = 0

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Whether the other side still took it."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        self.sent += len(data)
        return True

    def send_until_closed(self, pieces: Iterable[bytes], pause_s: float = 0) -> bytes:
        """Send one after another until the other side closes or has answered; what it answered."""
        answer = b""
        self.socket.settimeout(pause_s or 0.001)
        for piece in pieces:
            try:
                answer += (received := self.socket.recv(65_536))
                if not received:
                    return answer
            except TimeoutError:
                pass
            except OSError:
                return answer
            self.socket.settimeout(30)
            if not self.send(piece):
                break
            self.socket.settimeout(pause_s or 0.001)
        self.socket.settimeout(30)
        return answer + self.read_all()

    def read_all(self) -> bytes:
        """All that comes until the other side closes."""
        answer = b""
        with suppress(OSError):
            while received := self.socket.recv(65_536):
                answer += received
        return answer

    def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """One response whose length its head says."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            received = self.socket.recv(65_536)
            assert received, answer
            answer += received
        status, headers, body = parsed(answer)
        while len(body) < int(headers["content-length"]):
            body += self.socket.recv(65_536)
        return status, headers, body


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def problem_of(answer: bytes) -> tuple[int, str]:
    """Status and code of a problem."""
    status, headers, body = parsed(answer)
    assert headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == status and found["request_id"] and found["type"] == f"/problems/{found['code']}"
    return status, found["code"]


def post_head(length: int | None, path: str = "/v1/inpaint") -> bytes:
    """The head of an upload; chunked without a length."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    kind = "Content-Type: multipart/form-data; boundary=x"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\n{size}\r\n\r\n".encode()


def post(files: dict[str, Any], *headers: str) -> bytes:
    """A whole submission, as bytes."""
    request = httpx.Request("POST", "http://x/v1/inpaint", files=files)
    body = request.read()
    lines = [f"Content-Type: {request.headers['content-type']}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(["POST /v1/inpaint HTTP/1.1", "Host: x", *lines, "", ""]).encode() + body
