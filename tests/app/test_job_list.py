"""A tenant's list of jobs, and the cancelling of several at once."""

from collections.abc import AsyncIterator

import httpx
import pytest
from redis import Redis

from app.routes import job_list
from app.settings import ApiSettings
from jobs import job_index, keys
from jobs.api_keys import ApiKeys
from jobs.job_index import JobIndex, Place
from jobs.schema import JobProblem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(redis_url: str) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, auth="on")


@pytest.fixture
def mine(connection: Redis) -> dict[str, str]:
    return {"X-API-Key": ApiKeys(connection).create("acme")[0]}


@pytest.fixture
def yours(connection: Redis) -> dict[str, str]:
    return {"X-API-Key": ApiKeys(connection).create("rival")[0]}


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


async def submit(client: httpx.AsyncClient, key: dict[str, str]) -> str:
    answer = await client.post("/v1/inpaint", files=files(), headers=key)
    assert answer.status_code == 202
    return str(answer.json()["id"])


async def listed(client: httpx.AsyncClient, key: dict[str, str], query: str = "") -> list[str]:
    answer = await client.get(f"/v1/jobs{query}", headers=key)
    return [job["id"] for job in answer.json()["jobs"]]


async def test_each_tenant_sees_its_own_jobs_the_newest_first(
    client: httpx.AsyncClient, mine: dict[str, str], yours: dict[str, str]
) -> None:
    own = [await submit(client, mine) for _ in range(3)]
    other = await submit(client, yours)
    assert await listed(client, mine) == own[::-1]
    assert await listed(client, yours) == [other]


async def test_pages_follow_one_another_without_a_gap(client: httpx.AsyncClient, mine: dict[str, str]) -> None:
    own = [await submit(client, mine) for _ in range(5)]
    seen, address = [], "/v1/jobs?limit=2"
    for _ in range(3):
        page = await client.get(address, headers=mine)
        seen += [job["id"] for job in page.json()["jobs"]]
        if not page.json()["next"]:
            break
        assert page.links["next"]["url"] == f"?limit=2&cursor={page.json()['next']}"
        address = f"/v1/jobs{page.links['next']['url']}"
    assert seen == own[::-1]
    assert "Link" not in page.headers or (await listed(client, mine, page.links["next"]["url"])) == []


async def test_a_status_filters_and_what_has_expired_leaves_the_list(
    client: httpx.AsyncClient, mine: dict[str, str], settler: Settler, connection: Redis
) -> None:
    first, second, third = [await submit(client, mine) for _ in range(3)]
    settler.start(first)
    settler.fail(first, JobProblem(code="crashed", message="It died."))
    assert await listed(client, mine, "?status=failed") == [first]
    assert await listed(client, mine, "?status=queued") == [third, second]
    assert await listed(client, mine, "?status=queued&limit=1") == [third]
    connection.delete(f"rq:job:{second}")
    assert await listed(client, mine) == [third, first]
    (index,) = connection.scan_iter("infill:jobs-of:*")
    assert connection.zcard(index) == 2


async def test_a_job_whose_record_is_damaged_is_listed_without_its_model(
    client: httpx.AsyncClient, mine: dict[str, str], connection: Redis
) -> None:
    job = await submit(client, mine)
    connection.hset(f"rq:job:{job}", "data", b"nonsense")
    page = (await client.get("/v1/jobs", headers=mine)).json()
    assert [(found["id"], found["model"]) for found in page["jobs"]] == [(job, None)]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "cursor=x", "cursor=1-2", "status=odd", "status=loading", f"cursor={'1' * 60}"),
        *("state=queued", "limit=2&limit=3", "Status=queued"),
    ],
)
async def test_a_wrong_query_is_refused(client: httpx.AsyncClient, mine: dict[str, str], query: str) -> None:
    answer = await client.get(f"/v1/jobs?{query}", headers=mine)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field")


async def test_without_keys_there_is_no_list_and_nothing_is_kept_for_one(redis_url: str, connection: Redis) -> None:
    async with serve(ApiSettings(redis_url=redis_url)) as client:
        await submit(client, {})
        assert (await client.get("/v1/jobs")).json()["code"] == "forbidden"
    assert not list(connection.scan_iter("infill:jobs-of:*"))


async def test_the_list_lives_as_long_as_its_latest_job_can(
    client: httpx.AsyncClient, mine: dict[str, str], settings: ApiSettings, connection: Redis
) -> None:
    await submit(client, mine)
    (index,) = connection.scan_iter("infill:jobs-of:*")
    longest_s = settings.input_ttl_s + settings.record_ttl_s
    assert longest_s - 60 < connection.ttl(index) <= longest_s


def test_the_oldest_are_forgotten_beyond_the_most(connection: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_index, "MOST_JOBS", 3)
    index = JobIndex(connection, 60)
    for name in "abcde":
        index.add(connection, "someone", name)
    assert [place.job_id for place in index.older("someone", None, 10)] == ["e", "d", "c"]


def test_jobs_of_one_microsecond_are_neither_skipped_nor_repeated(connection: Redis) -> None:
    index = JobIndex(connection, 60)
    connection.zadd(keys.jobs_of("someone"), dict.fromkeys("abcdef", 7) | {"old": 3, "new": 9})
    seen: list[str] = []
    place: Place | None = None
    while places := index.older("someone", place, 2):
        seen += [found.job_id for found in places]
        place = places[-1]
    assert seen == ["new", *"fedcba", "old"]


async def test_several_are_canceled_and_each_has_its_outcome(
    client: httpx.AsyncClient, mine: dict[str, str], yours: dict[str, str], settler: Settler
) -> None:
    running, ended, waiting = [await submit(client, mine) for _ in range(3)]
    settler.start(running)
    settler.start(ended)
    settler.fail(ended, JobProblem(code="crashed", message="It died."))
    other = await submit(client, yours)
    ids = [running, ended, waiting, other, "nobody"]
    answer = await client.post("/v1/jobs/cancel", json={"ids": ids}, headers=mine)
    assert [(job["id"], job["outcome"], job["code"]) for job in answer.json()["jobs"]] == [
        (running, "stopping", None),
        (ended, "refused", "job_already_finished"),
        (waiting, "canceled", None),
        (other, "refused", "job_not_found"),
        ("nobody", "refused", "job_not_found"),
    ]
    assert (await client.get(f"/v1/jobs/{other}", headers=yours)).json()["status"] == "queued"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{}", b'{"ids": []}', b'{"ids": "a"}', b'{"ids": [1]}', b'{"ids": ["a"], "x": 1}', b"{"),
        b'{"ids": ["a"], "ids": ["b"]}',
    ],
)
async def test_a_body_that_is_no_list_of_ids_is_refused(
    client: httpx.AsyncClient, mine: dict[str, str], body: bytes
) -> None:
    answer = await client.post("/v1/jobs/cancel", content=body, headers=mine | {"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field"), answer.text
    assert "validation" not in answer.json()["detail"] and "Input" not in answer.json()["detail"]


async def test_a_body_that_is_no_text_is_malformed(client: httpx.AsyncClient, mine: dict[str, str]) -> None:
    answer = await client.post("/v1/jobs/cancel", content=b"\xff", headers=mine | {"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "The body is not text in UTF-8.")


async def test_too_many_ids_and_too_long_a_body_are_refused(client: httpx.AsyncClient, mine: dict[str, str]) -> None:
    many = {"ids": ["a"] * (job_list.MOST_CANCELS + 1)}
    assert (await client.post("/v1/jobs/cancel", json=many, headers=mine)).status_code == 422
    long = {"ids": ["a" * job_list.MAX_BODY_BYTES]}
    assert (await client.post("/v1/jobs/cancel", json=long, headers=mine)).status_code == 413
