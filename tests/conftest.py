"""A real Redis for every test that asks for one; one server process for each pytest (or pytest-xdist) process."""

import gc
from collections.abc import Iterator

import pytest
from redis import Redis

from tests.programs import pytest_runtest_makereport  # noqa: F401  # a hook
from tests.redis_server import RedisServer

LONG = (
    "tests/worker/training/",
    "tests/e2e/",
    "tests/attack/",
    "tests/worker/queue/",
    "tests/launch/",
    "tests/app/test_page",
)
"""Real training, and real processes that are waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no process is left with one of them when the others are done."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """What is there for good is not looked through at every collection of garbage: torch's modules alone take 0.3 s."""
    gc.collect()
    gc.freeze()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """As after the collection: a module's tests import more, and the libraries they use collect garbage themselves."""
    if nextitem is None or nextitem.path != item.path:
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
