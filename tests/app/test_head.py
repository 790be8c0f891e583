"""HEAD is answered wherever GET is: with the same status and headers, and without a body."""

import http.client
import json
import socket

import httpx
import pytest

from app.main import create_app
from app.settings import ApiSettings
from tests.app.metrics import metrics_of, value
from tests.app.processes import ApiProcess
from tests.app.settling import Settler
from tests.app.submissions import files

OWN = ("date", "x-request-id", "server-timing")
"""Headers that are each answer's own."""

PATHS = [path for path, methods in create_app(ApiSettings()).openapi()["paths"].items() if "get" in methods] + [
    "/",
    "/docs",
    "/docs/README.md",
    "/redoc",
    "/openapi.json",
    "/nothing",
]


def connected(api: ApiProcess) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=10)


def of(response: http.client.HTTPResponse) -> tuple[int, dict[str, str]]:
    headers = {name.lower(): found for name, found in response.getheaders() if name.lower() not in OWN}
    return response.status, headers


@pytest.mark.parametrize("path", [path for path in PATHS if not path.endswith("/events") and path != "/metrics"])
def test_head_is_get_without_the_body(api: ApiProcess, settler: Settler, path: str) -> None:
    job_id = httpx.post(f"{api.url}/v1/inpaint", files=files()).json()["id"]
    settler.start(job_id)
    settler.succeed(job_id, [b"image"])
    address = path.format(job_id=job_id, batch_id="unknown", index=0, code="queue_full")
    connection = connected(api)
    connection.request("GET", address)
    got = connection.getresponse()
    expected, body = of(got), got.read()
    for _ in range(2):  # a body behind the first one would be taken for the second one's answer
        connection.request("HEAD", address)
        response = connection.getresponse()
        assert (*of(response), response.read()) == (*expected, b"")
    assert int(expected[1]["content-length"]) == len(body) > 0
    connection.close()


def test_head_of_an_event_stream_returns_at_once(api: ApiProcess) -> None:
    job_id = httpx.post(f"{api.url}/v1/inpaint", files=files()).json()["id"]
    connection = connected(api)
    for _ in range(2):
        connection.request("HEAD", f"/v1/jobs/{job_id}/events")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
        assert response.headers["content-type"].startswith("text/event-stream")
    connection.close()


def test_nothing_follows_the_headers_on_the_wire(api: ApiProcess) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert received.startswith(b"HTTP/1.1 200") and received.endswith(b"\r\n\r\n")
    assert received.count(b"\r\n\r\n") == 1


@pytest.mark.anyio
async def test_head_where_there_is_no_get_names_what_there_is(client: httpx.AsyncClient) -> None:
    response = await client.head("/v1/inpaint")
    assert (response.status_code, response.headers["Allow"], response.content) == (405, "POST", b"")


@pytest.mark.anyio
async def test_head_of_an_image_that_is_known_is_a_304(client: httpx.AsyncClient, settler: Settler) -> None:
    job_id = (await client.post("/v1/inpaint", files=files())).json()["id"]
    settler.start(job_id)
    settler.succeed(job_id, [b"image"])
    address = f"/v1/jobs/{job_id}/images/0"
    etag = (await client.head(address)).headers["ETag"]
    assert (await client.head(address, headers={"If-None-Match": etag})).status_code == 304


@pytest.mark.anyio
async def test_head_is_counted_and_logged_as_head(client: httpx.AsyncClient) -> None:
    await client.head("/v1/models")
    metrics = await metrics_of(client)
    assert value(metrics, "infill_http_requests_total", route="/v1/models", method="HEAD", status="200") == 1


@pytest.mark.anyio
async def test_a_crash_on_head_is_a_500_without_a_body(client: httpx.AsyncClient, settler: Settler) -> None:
    settler.queue.connection.sadd("infill:workers", "odd")
    settler.queue.connection.set("infill:worker:odd", "no presence")
    response = await client.head("/v1/workers")
    assert (response.status_code, response.content) == (500, b"")
    assert json.loads((await client.get("/v1/workers")).content)["code"] == "internal_error"
