"""``/v1/batches``: lines become jobs of low priority, bit by bit, and their ends become results."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from app.batch_lines import MOST_LINE_BYTES
from app.settings import ApiSettings
from jobs import keys
from jobs.api_keys import ApiKeys, Scope
from jobs.schema import JobProblem
from tests.app.pictures import box_mask, photo
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import submit
from tests.factories import encoded

pytestmark = pytest.mark.anyio

PHOTO, MASK = (base64.b64encode(encoded(picture)).decode() for picture in (photo(), box_mask()))
JSONL = {"Content-Type": "application/jsonl"}
KEYS = {"infill:batches", "infill:batch-feeder"}


def line(custom_id: str, **fields: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "image": PHOTO, "mask": MASK} | fields


def body(*lines: object) -> bytes:
    return b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)


async def post(client: httpx.AsyncClient, *lines: object, headers: dict[str, str] | None = None) -> httpx.Response:
    return await client.post("/v1/batches", content=body(*lines), headers=JSONL | (headers or {}))


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(15):
        while not (value := await found()):
            await asyncio.sleep(0.02)
    return value


async def when(
    client: httpx.AsyncClient, url: str, headers: dict[str, str] | None = None, **wanted: Any
) -> dict[str, Any]:
    """The batch, once it has this status and these counts."""

    async def look() -> dict[str, Any] | None:
        batch: dict[str, Any] = (await client.get(url, headers=headers)).json()
        flat = batch["counts"] | {"status": batch["status"]}
        return batch if all(flat[name] == value for name, value in wanted.items()) else None

    found: dict[str, Any] = await until(look)
    return found


async def results(client: httpx.AsyncClient, batch: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    answer = await client.get(batch["results_url"], **more)
    assert answer.headers["Content-Type"] == "application/jsonl"
    return [json.loads(row) for row in answer.text.splitlines()]


async def test_lines_become_jobs_of_low_priority_and_their_ends_results(
    client: httpx.AsyncClient, settler: Settler, connection: Redis
) -> None:
    answer = await post(
        client,
        line("a", seed=7),
        b"",
        line("b", n=2),
        line("c"),
        b'\xef\xbb\xbf{"custom_id": "d"' + body(line("d"))[len(b'{"custom_id": "d"') :] + b"\r",
    )
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["Location"] == made["url"] and made["counts"]["total"] == 4
    await when(client, made["url"], at_work=4, waiting=0)
    jobs = [settler.take() for _ in range(4)]
    views = [(await client.get(f"/v1/jobs/{job.id}")).json() for job in jobs]
    assert {view["priority"] for view in views} == {"low"} and views[0]["seeds"] == [7]
    settler.succeed(jobs[0].id, [b"png"])
    settler.succeed(jobs[1].id, [b"png", b"png"])
    settler.fail(jobs[2].id, JobProblem(code="not_finite", message="It went wrong."))
    await when(client, made["url"], succeeded=2, failed=1, at_work=1, status="in_progress")
    assert [row["custom_id"] for row in await results(client, made)] == ["a", "b", "c"]
    await client.delete(f"/v1/jobs/{jobs[3].id}")
    settler.stop(jobs[3].id)
    done = await when(client, made["url"], status="completed")
    assert done["counts"] == {
        "total": 4, "waiting": 0, "at_work": 0, "succeeded": 2, "failed": 1, "canceled": 1, "expired": 0
    }  # fmt: skip
    assert done["ended_at"] and not done["canceling_at"]
    first, second, third, fourth = await results(client, made)
    head = await client.head(made["results_url"])
    assert (head.status_code, head.content) == (200, b"")
    url = f"/v1/jobs/{jobs[0].id}"
    assert first == {
        "custom_id": "a", "status": "succeeded", "job": url, "images": [f"{url}/images/0"], "seeds": [7], "error": None
    }  # fmt: skip
    assert len(second["images"]) == 2 and (await client.get(second["images"][1])).content == b"png"
    assert (third["status"], third["error"]) == ("failed", {"code": "not_finite", "message": "It went wrong."})
    assert (fourth["custom_id"], fourth["status"], fourth["images"]) == ("d", "canceled", [])
    assert not connection.keys("infill:lines*") and not connection.zcard(keys.BATCHES)
    assert 0 < connection.ttl(keys.batch(made["id"])) <= 86_400


async def test_the_same_as_a_file_of_a_form(client: httpx.AsyncClient) -> None:
    for name, status in (("file", 201), ("lines", 422)):
        answer = await client.post("/v1/batches", files={name: ("in.jsonl", body(line("a")))})
        assert answer.status_code == status, answer.text
    for answer in (
        await client.post("/v1/batches", files={"file": ("a", b"")}),
        await client.post("/v1/batches", files=[("file", ("a", body(line("a")))), ("file", ("b", body(line("b"))))]),
        await client.post("/v1/batches", files={"file": ("a", body(line("a")))}, params={"x": "1"}),
    ):
        assert_problem(answer, 422, "invalid_field")
    plain = await client.post("/v1/batches", content=b"{}", headers={"Content-Type": "text/plain"})
    assert_problem(plain, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"image": PHOTO, "mask": MASK}, "custom_id: This field is missing"),
        (line("../x"), "custom_id: '../x' is not allowed"),
        (line("A"), "custom_id: 'A' is taken by line 1"),
        (line("b", colour="red"), "There is no field 'colour'"),
        (line("b", seed="7"), "seed: This field must be a whole number"),
        (line("b", n=9), "n: This field must be less than or equal to 8"),
        (line("b", model="nobody"), "nobody"),
        (line("b", preset="nobody"), "preset: there is no 'nobody'"),
        (line("b", priority="normal"), "priority: lines of a batch are of low priority"),
        (line("b", on_disconnect="cancel"), "on_disconnect: nobody waits"),
        (line("b", image=None), "image: This field is missing"),
        (line("b", image="", image_url="https://a.example/x"), "image_url: this service fetches no pictures"),
        (line("b", image_url="https://a.example/x"), "image, image_url: send one of them"),
        (line("b", output_url="https://a.example/x"), "output_url"),
        (line("b", webhook_url="https://a.example/x"), "webhook_url: this service calls no webhooks"),
        (b"[1]", "not an object"),
        (b"{", "it is not JSON"),
        (b"\xff", "it is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"custom_id": "b", "custom_id": "c"}', "custom_id: sent more than once"),
        (line("b", prompt=json.loads("[" * 300 + "]" * 300)), "nested too deeply"),
        (b'{"custom_id": "b", "seed": NaN}', "NaN: JSON has no such number"),
        (b'{"custom_id": "b", "image": "\\ud800"}', "half of a character"),
    ],
)
async def test_a_bad_line_is_named_and_nothing_is_taken(
    client: httpx.AsyncClient, connection: Redis, bad: object, sentence: str
) -> None:
    answer = await post(client, line("a"), b"", bad)
    assert_problem(answer, 422, "invalid_field")
    assert "1 of the lines cannot be taken, so none was. line 3: " in answer.json()["detail"]
    assert sentence in answer.json()["detail"]
    assert not connection.keys("infill:batch*") and not connection.keys("infill:lines*")


async def test_many_faults_are_counted(client: httpx.AsyncClient) -> None:
    detail = (await post(client, *[line("/")] * 30)).json()["detail"]
    assert detail.startswith("30 of the lines") and detail.count("line ") == 10 and detail.endswith("And 20 more.")


@pytest.mark.parametrize(("kind", "code"), [("batches", "batch_not_found"), ("jobs", "job_not_found")])
async def test_a_long_id_is_not_said_again(client: httpx.AsyncClient, kind: str, code: str) -> None:
    answer = await client.get(f"/v1/{kind}/{'a' * 5_000}")
    assert len(assert_problem(answer, 404, code)["detail"]) < 200


async def test_what_a_batch_may_be_is_bounded(settings: ApiSettings, connection: Redis) -> None:
    small = settings.model_copy(update={"batch_lines": 3, "batch_bytes": 2**20, "caller_batches": 2})
    async with serve(small) as client:
        rows = [{"custom_id": f"l{k}", "image_url": "x"} for k in range(4)]
        assert_problem(await post(client, *rows), 422, "invalid_field")
        assert_problem(await post(client), 422, "invalid_field")
        blank = await post(client, line("a"), b"", b"", b"", b"")
        assert_problem(blank, 422, "invalid_field")
        assert "more than 3 lines; blank ones count" in blank.json()["detail"]
        assert_problem(await post(client, b" " * (3 * 2**20)), 413, "too_large")
        assert [(await post(client, line("a"))).status_code for _ in range(2)] == [201, 201]
        refused = await post(client, line("a"))
        assert_problem(refused, 429, "quota_exceeded")
        assert refused.headers["Retry-After"]
        limits = (await client.get("/v1/capabilities")).json()["limits"]
        assert (limits["batch_lines"], limits["batch_bytes"], limits["caller_batches"]) == (3, 2**20, 2)
    async with serve(settings) as client:
        long = b'{"custom_id": "a", "image": "' + b"a" * MOST_LINE_BYTES + b'"}'
        answer = await post(client, long)
        assert_problem(answer, 422, "invalid_field")
        assert "line 1: it is longer than" in answer.json()["detail"]
        connection.config_set("maxmemory", 10 * 2**20)
        try:
            assert_problem(await post(client, line("a", image=PHOTO + "A" * 12 * 2**20)), 413, "too_large")
        finally:
            connection.config_set("maxmemory", 0)


async def test_a_repeated_call_makes_no_second_batch(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    first = await post(client, line("a"), headers=key)
    again = await post(client, line("a"), headers=key)
    assert again.json()["id"] == first.json()["id"] and again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert_problem(await post(client, line("b"), headers=key), 422, "idempotency_conflict")
    assert (await post(client, line("a"))).json()["id"] != first.json()["id"]
    calls = [post(client, line(f"l{number % 2}"), headers={"Idempotency-Key": "at once"}) for number in range(6)]
    answers = await asyncio.gather(*calls)
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert {answer.status_code for answer in answers} == {201, 422}


async def test_a_bounded_number_of_jobs_is_made_at_a_time_and_others_have_room(
    settings: ApiSettings, settler: Settler
) -> None:
    async with serve(settings.model_copy(update={"batch_jobs": 3, "queue_limit": 8})) as client:
        made = (await post(client, *[line(f"l{number}") for number in range(5)])).json()
        await when(client, made["url"], at_work=3, waiting=2)
        normal = (await submit(client)).json()
        assert normal["queue_position"] == 0 and settler.queue.depth() == 4
        settler.start(normal["id"])
        settler.succeed(settler.take().id, [b"png"])
        await when(client, made["url"], at_work=3, waiting=1, succeeded=1)


async def test_a_caller_with_a_quota_keeps_half_of_it_for_its_other_calls(settings: ApiSettings) -> None:
    async with serve(settings.model_copy(update={"caller_jobs": 4})) as client:
        made = (await post(client, *[line(f"l{number}") for number in range(5)])).json()
        await when(client, made["url"], at_work=2, waiting=3)
        assert [(await submit(client)).status_code for _ in range(3)] == [202, 202, 429]


async def test_a_full_queue_is_waited_for_and_a_line_that_is_refused_has_failed(
    settings: ApiSettings, settler: Settler
) -> None:
    async with serve(settings.model_copy(update={"queue_limit": 2, "caller_share": 1.0})) as client:
        made = (await post(client, line("a"), line("b", mask_box=[0, 0, 9999, 1]), line("c"))).json()
        await when(client, made["url"], at_work=1, waiting=2)
        settler.succeed(settler.take().id, [b"png"])
        await when(client, made["url"], at_work=1, succeeded=1, failed=1, status="in_progress")
        settler.succeed(settler.take().id, [b"png"])
        await when(client, made["url"], status="completed")
        failed = (await results(client, made))[1]
        assert failed["custom_id"] == "b" and failed["error"]["code"] == "invalid_field" and failed["job"] is None


async def test_a_batch_that_is_canceled_cancels_its_jobs_and_its_other_lines(
    settings: ApiSettings, settler: Settler
) -> None:
    async with serve(settings.model_copy(update={"batch_jobs": 2})) as client:
        made = (await post(client, *[line(f"l{number}") for number in range(6)])).json()
        await when(client, made["url"], at_work=2)
        running = settler.take()
        answer = await client.post(f"{made['url']}/cancel")
        assert answer.json()["status"] == "canceling" and answer.json()["canceling_at"]
        await when(client, made["url"], canceled=5, at_work=1)
        settler.stop(running.id)
        done = await when(client, made["url"], status="canceled", canceled=6)
        assert [row["custom_id"] for row in await results(client, made)] == [f"l{number}" for number in range(6)]
        again = await client.post(f"{made['url']}/cancel")
        assert again.status_code == 200 and again.json() == done
        assert settler.queue.depth() == 0


async def test_a_batch_that_takes_too_long_expires(settings: ApiSettings, settler: Settler) -> None:
    async with serve(settings.model_copy(update={"batch_ttl_s": 1, "batch_jobs": 1})) as client:
        made = (await post(client, line("a"), line("b"))).json()
        done = await when(client, made["url"], status="expired")
        assert (done["counts"]["canceled"], done["counts"]["expired"]) == (1, 1) and settler.queue.depth() == 0


async def test_lines_in_several_chunks_are_all_made(client: httpx.AsyncClient, settler: Settler) -> None:
    filler = "x" * 700_000
    bad = [line(f"l{number}", mask=filler) for number in range(5)]
    made = (await post(client, *bad, line("good"))).json()
    await when(client, made["url"], failed=5, at_work=1)
    settler.succeed(settler.take().id, [b"png"])
    await when(client, made["url"], status="completed")
    assert [row["custom_id"] for row in await results(client, made)] == [f"l{number}" for number in range(5)] + ["good"]


async def test_lines_that_the_store_has_lost_have_failed(settings: ApiSettings, connection: Redis) -> None:
    async with serve(settings.model_copy(update={"queue_limit": 2, "caller_share": 1.0})) as client:
        made = (await post(client, line("a"), line("b"))).json()
        await when(client, made["url"], at_work=1, waiting=1)
        connection.delete(*connection.keys("infill:lines*"))
    async with serve(settings) as client:  # another process, which has read nothing yet
        await when(client, made["url"], at_work=1, failed=1)
        assert (await results(client, made))[0]["error"]["code"] == "undecodable_job"


async def test_a_batch_that_cannot_be_read_holds_up_no_other(settings: ApiSettings, connection: Redis) -> None:
    connection.hset(keys.batch("batch_bad"), mapping={"record": "{}", "state": "in_progress", "fed": "0"})
    connection.zadd(keys.BATCHES, {"batch_bad": 1})
    async with serve(settings) as client:
        made = (await post(client, line("a"))).json()
        await when(client, made["url"], at_work=1)


async def test_another_tenants_batches_are_nowhere_and_ones_own_are_listed_page_by_page(
    settings: ApiSettings, connection: Redis
) -> None:
    tenants: list[tuple[str, list[Scope]]] = [
        ("acme", ["submit", "read"]),
        ("rival", ["submit", "read"]),
        ("acme", ["read"]),
    ]
    owner, rival, reader = ({"X-API-Key": ApiKeys(connection).create(tenant, scopes)[0]} for tenant, scopes in tenants)
    async with serve(settings.model_copy(update={"auth": "on"})) as client:
        made = [(await post(client, line("a"), headers=owner)).json() for _ in range(3)]
        listed = (await client.get("/v1/batches?limit=2", headers=owner)).json()
        rest = (await client.get(f"/v1/batches?limit=2&cursor={listed['next']}", headers=owner)).json()
        assert [batch["id"] for batch in listed["batches"] + rest["batches"]] == [batch["id"] for batch in made[::-1]]
        assert rest["next"] is None
        assert (await client.get("/v1/batches", headers=rival)).json() == {"batches": [], "next": None}
        for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel")):
            answer = await client.request(method, made[0]["url"] + path, headers=rival)
            assert_problem(answer, 404, "batch_not_found")
            absent = await client.request(method, f"/v1/batches/batch_{'0' * 32}{path}", headers=rival)
            told = absent.json()["detail"].replace("batch_" + "0" * 32, made[0]["id"])
            assert answer.json()["detail"] == told
        await when(client, made[0]["url"], owner, at_work=1)
        assert (await post(client, line("a"), headers=reader)).status_code == 403
        assert (await client.post(f"{made[0]['url']}/cancel", headers=reader)).status_code == 403
        jobs = (await client.get("/v1/jobs", headers=owner)).json()["jobs"]
        assert len(jobs) >= 1
        for query in ("cursor=x", "limit=0", "status=completed", "limit=1&limit=2"):
            assert_problem(await client.get(f"/v1/batches?{query}", headers=owner), 422, "invalid_field")


async def test_without_keys_a_batch_is_found_by_its_id_and_none_is_listed(client: httpx.AsyncClient) -> None:
    made = (await post(client, line("a"))).json()
    assert (await client.get(made["url"])).status_code == 200
    assert_problem(await client.get("/v1/batches"), 403, "forbidden")
    for wrong in ("batch_x", "x", "batch_" + "0" * 33):
        assert_problem(await client.get(f"/v1/batches/{wrong}"), 404, "batch_not_found")


async def test_a_process_that_takes_over_finds_the_job_of_a_line_that_was_not_noted(
    settings: ApiSettings, connection: Redis, settler: Settler
) -> None:
    """As if the first one had been killed between the job and its note."""
    async with serve(settings.model_copy(update={"batch_jobs": 2})) as client:
        made = (await post(client, line("a"), line("b"), line("c"))).json()
        await when(client, made["url"], at_work=2)
    connection.hset(keys.batch(made["id"]), "fed", 1)
    connection.hdel(keys.batch_jobs(made["id"]), "1")
    async with serve(settings) as client:
        await when(client, made["url"], at_work=3)
        assert settler.queue.depth() == 3
        for _ in range(3):
            settler.succeed(settler.take().id, [b"png"])
        await when(client, made["url"], status="completed", succeeded=3)
    connection.zadd(keys.BATCHES, {made["id"]: 1, "batch_gone": 2})  # it was killed as the batch had just ended
    async with serve(settings):
        await until(lambda: asyncio.to_thread(lambda: not connection.zcard(keys.BATCHES)))
