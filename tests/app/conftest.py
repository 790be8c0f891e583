"""The API in this process, over a real Redis."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from tests.app.processes import ApiProcess, api_process
from tests.app.serving import serve
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


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client
