from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.stack import Stack
from tests.redis_server import RedisServer


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One API and one worker with the pocket model, on a Redis of their own."""
    folder, loras = tmp_path_factory.mktemp("e2e"), tmp_path_factory.mktemp("loras")
    with (
        RedisServer(folder / "redis", append_only=True) as server,
        Stack(server.url, folder, INFILL_LORA_DIR=str(loras)) as made,
    ):
        made.start_api()
        made.start_worker()
        made.wait_until_ready()
        yield made


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made
