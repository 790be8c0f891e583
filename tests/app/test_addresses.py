"""Addresses that are nearly ours, of a real server: a problem, never a redirect to the host that Host names."""

import json

import pytest

from tests.app.processes import ApiProcess
from tests.app.sockets import Caller

NEARLY = [
    "/v1/inpaint/",
    "/v1/jobs/",
    "/v1/jobs/a/",
    "/v1/jobs/a%2Fb",
    "/v1/models/",
    "/v1//models",
    "//v1/models",
    "//v1/inpaint",
    "//evil.example/v1/models",
    "http://evil.example/v1/models/",
    "/v1/../v1/models",
    "/V1/inpaint",
    "/Docs",
    "/docs/",
    "/docs//",
    "/redoc/",
    "/openapi.json/",
    "/healthz/",
    "/healthz;x",
    "/problems/",
    "/metrics/",
    "/static-offline-docs",
    "/static-offline-docs/",
    "/static-offline-docs/.",
    "/static-offline-docs/../main.py",
    "/static-offline-docs/%2e%2e/core.py",
    "*",
]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("address", NEARLY)
def test_an_address_that_is_nearly_ours_is_a_404_and_no_redirect(api: ApiProcess, address: str, method: str) -> None:
    with Caller(api) as caller:
        caller.send(f"{method} {address} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n".encode())
        status, headers, body = caller.read_answer()
    if address.startswith("/static-offline-docs/") and method != "GET":
        assert (status, json.loads(body)["code"]) == (405, "method_not_allowed")
        return
    problem = json.loads(body)
    assert (status, problem["code"], headers["content-type"]) == (404, "not_found", "application/problem+json")
    assert problem["detail"].endswith("/docs lists all addresses; none ends with a slash.")
    assert "location" not in headers and b"evil.example" not in body.replace(address.encode(), b"")


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ("bytes=99999999-", 416, "range_not_satisfiable"),
        ("bytes=5-3", 400, "malformed_request"),
        ("bytes=a-b", 400, "malformed_request"),
        ("pages=1-2", 400, "malformed_request"),
    ],
)
def test_a_range_that_a_file_does_not_have_is_a_problem_too(
    api: ApiProcess, wanted: str, status: int, code: str
) -> None:
    with Caller(api) as caller:
        head = f"GET /static-offline-docs/swagger-ui.css HTTP/1.1\r\nHost: x\r\nRange: {wanted}\r\n\r\n"
        caller.send(head.encode())
        answered, headers, body = caller.read_answer()
    problem = json.loads(body)
    assert (answered, problem["status"], problem["code"]) == (status, status, code)
    assert headers["content-type"] == "application/problem+json" and problem["detail"].startswith("Range: ")
    assert headers["x-content-type-options"] == "nosniff" and problem["request_id"] == headers["x-request-id"]
    if status == 416:
        assert headers["content-range"].startswith("bytes */")
