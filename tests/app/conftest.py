"""The API in this process, over a real Redis."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any

import httpx
import pytest
from redis import Redis

from app.decoding import sandbox_for
from app.main import create_app
from app.settings import ApiSettings
from jobs.sandbox.pool import Sandbox
from tests.app.pictures import box_mask, encoded, photo
from tests.app.processes import ApiProcess, api_process
from tests.app.settling import Settler
from tests.redis_server import RedisServer

Client = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(redis_url: str) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, poll_s=0.2)


@pytest.fixture
def settler(connection: Redis, settings: ApiSettings) -> Settler:
    return Settler.connect(connection, settings)


@pytest.fixture(scope="package")
def shared_api(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    changed = {"max_image_bytes": 2_000_000, "max_mask_bytes": 1_000_000, "log_level": "DEBUG"}
    with api_process(tmp_path_factory.mktemp("api"), redis_server.url, **changed) as api:
        yield api


@pytest.fixture
def api(shared_api: ApiProcess, redis_url: str) -> ApiProcess:  # noqa: ARG001
    """The API as a process of its own, shared by the tests, over an emptied Redis."""
    return shared_api


@cache
def _shared_sandbox() -> Sandbox:
    """Decoders for all apps of this process: starting their own would take each of them a second."""
    return sandbox_for(ApiSettings())


@asynccontextmanager
async def serve(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app in this process, its lifespan included."""
    app = create_app(settings, _shared_sandbox())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=20) as client:
            yield client


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


def files(image: bytes | None = None, mask: bytes | None = None) -> dict[str, Any]:
    """A valid pair, or the given bytes."""
    return {
        "image": ("photo", encoded(photo()) if image is None else image),
        "mask": ("mask", encoded(box_mask()) if mask is None else mask),
    }


async def submit(client: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return await client.post("/v1/inpaint", files=files(), data=fields, headers=headers)
