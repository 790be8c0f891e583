from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.stack import Stack
from tests.redis_server import RedisServer


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One API and one worker with the pocket model, on a Redis of their own."""
    server = RedisServer(tmp_path_factory.mktemp("e2e-redis"), append_only=True)
    server.start()
    made = Stack(server.url, tmp_path_factory.mktemp("e2e"), INFILL_LORA_DIR=str(tmp_path_factory.mktemp("loras")))
    try:
        made.start_api()
        made.start_worker()
        made.wait_until_ready()
        yield made
    finally:
        made.end()
        server.kill()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made
