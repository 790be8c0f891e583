"""The API over servers that answer and do not serve: 503 with Retry-After, whichever route, and never a 500."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs import keys
from jobs.store import Store
from tests.app.metrics import WORKER
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.submissions import submit
from tests.redis_server import RedisServer
from tests.redis_states import EACH_STATE, STATES

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("states")) as server:
        yield server


@pytest.fixture
async def api(own_server: RedisServer) -> AsyncIterator[httpx.AsyncClient]:
    settings = ApiSettings(redis_url=own_server.url)
    with Redis.from_url(own_server.url) as client:
        client.flushall()
        Store(client, settings).announce(WORKER, lease_s=60)
    async with serve(settings) as made:
        yield made


@EACH_STATE
async def test_every_route_says_that_the_store_does_not_serve_and_serves_again_afterwards(
    own_server: RedisServer, api: httpx.AsyncClient, state: str
) -> None:
    job = f"/v1/jobs/{(await submit(api)).json()['id']}"
    code = "store_full" if state == "OOM" else "store_unavailable"
    with STATES[state](own_server):
        refused = [await submit(api), await submit(api, {"Idempotency-Key": "k"}), await api.get("/readyz")]
        paths = (job, f"{job}/images/0", "/v1/models", "/v1/workers")
        answers = [await api.delete(job), *[await api.get(path) for path in paths]]
        assert (await api.get("/metrics")).status_code == 200
    for response in refused:
        assert_problem(response, 503, code)
        assert int(response.headers["Retry-After"]) >= 1
    for response in answers:
        assert response.status_code < 500 or response.headers["Retry-After"], response.text
    assert (await api.get("/readyz")).status_code == 200
    assert (await submit(api)).status_code == 202


async def test_an_answer_of_redis_that_nobody_foresaw_is_a_503_too(
    own_server: RedisServer, api: httpx.AsyncClient
) -> None:
    with Redis.from_url(own_server.url) as client:
        client.set(keys.RESERVED, "of another type")
    assert_problem(await submit(api), 503, "store_unavailable")
