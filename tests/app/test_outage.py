"""Redis away: 503 at once, never a hang; and back to work without a restart."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import submit
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill; it keeps its data."""
    with RedisServer(tmp_path / "redis", append_only=True) as server:
        yield server


async def assert_unavailable_soon(client: httpx.AsyncClient, method: str, path: str, limit_s: float) -> None:
    began = time.monotonic()
    response = await (submit(client) if method == "POST" else client.request(method, path))
    assert time.monotonic() - began < limit_s
    assert_problem(response, 503, "store_unavailable")
    assert int(response.headers["Retry-After"]) >= 1


ROUTES = [
    ("POST", "/v1/inpaint"),
    ("GET", f"/v1/jobs/{'0' * 32}"),
    ("GET", f"/v1/jobs/{'0' * 32}/images/0"),
    ("GET", f"/v1/jobs/{'0' * 32}/events"),
    ("DELETE", f"/v1/jobs/{'0' * 32}"),
    ("GET", "/v1/models"),
    ("GET", "/v1/workers"),
    ("GET", "/readyz"),
]


async def test_while_redis_is_away_every_route_says_so_at_once(own_server: RedisServer) -> None:
    async with serve(ApiSettings(redis_url=own_server.url)) as client:
        assert (await submit(client)).status_code == 202
        own_server.kill()
        for method, path in ROUTES:
            await assert_unavailable_soon(client, method, path, 2.5)
        assert (await client.get("/healthz")).status_code == 200
        assert "infill_store_up 0.0" in (await client.get("/metrics")).text


async def test_a_redis_that_hangs_is_a_503_within_its_timeouts(own_server: RedisServer) -> None:
    async with serve(ApiSettings(redis_url=own_server.url)) as client:
        assert (await submit(client)).status_code == 202
        own_server.signal(signal.SIGSTOP)
        try:
            await assert_unavailable_soon(client, "POST", "/v1/inpaint", 8)
        finally:
            own_server.signal(signal.SIGCONT)


async def test_after_a_restart_of_redis_everything_works_again_and_notices_arrive(own_server: RedisServer) -> None:
    settings = ApiSettings(redis_url=own_server.url, poll_s=30)
    async with serve(settings) as client:
        job_id = (await submit(client)).json()["id"]
        own_server.kill()
        await assert_unavailable_soon(client, "POST", "/v1/inpaint", 2.5)
        own_server.start()
        assert (await client.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued"
        await anyio.sleep(1.2)  # the listener tries again twice a second
        settler = Settler.connect(client_connection(own_server), settings)
        settler.start(job_id)

        async def end() -> None:
            await anyio.sleep(0.3)
            settler.succeed(job_id, [b"image"])

        with anyio.fail_after(5):
            events, _ = await asyncio.gather(client.get(f"/v1/jobs/{job_id}/events"), end())
    assert "event: end" in events.text


async def test_a_call_that_waits_through_a_lost_redis_ends_in_a_503(own_server: RedisServer) -> None:
    async with serve(ApiSettings(redis_url=own_server.url, poll_s=0.2)) as client:

        async def kill_soon() -> None:
            await anyio.sleep(0.5)
            own_server.kill()

        began = time.monotonic()
        response, _ = await asyncio.gather(submit(client, {"Prefer": "wait=20"}), kill_soon())
        assert time.monotonic() - began < 5
    assert_problem(response, 503, "store_unavailable")


def client_connection(server: RedisServer) -> Redis:
    return Redis.from_url(server.url)
