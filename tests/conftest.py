"""A real Redis for every test that asks for one; one server process for each pytest (or pytest-xdist) process."""

import gc
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.programs import pytest_runtest_makereport  # noqa: F401  # a hook
from tests.redis_server import RedisServer


def pytest_collection_finish() -> None:
    """What the imports left is not looked through at every collection of garbage: torch's alone takes 0.3 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that is shared by the tests of this process; not to be stopped by them."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty database."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return redis_server.url


@pytest.fixture
def connection(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client
