"""``priority`` of a request, by form and by JSON: said in the job, and found in the queue."""

import base64

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from tests.app.metrics import metrics_of, value
from tests.app.pictures import photo
from tests.app.serving import serve
from tests.app.submissions import submit
from tests.factories import encoded

pytestmark = pytest.mark.anyio

BODY = {"image": base64.b64encode(encoded(photo())).decode(), "mask_box": [0, 0, 20, 20]}


async def test_the_job_says_which_it_has_and_one_of_normal_priority_stands_before_one_of_low(
    client: httpx.AsyncClient,
) -> None:
    low = (await submit(client, priority="low")).json()
    by_json = (await client.post("/v1/inpaint", json=BODY | {"priority": "low"})).json()
    normal, sent = (await submit(client)).json(), (await submit(client, priority="normal")).json()
    assert [job["priority"] for job in (low, by_json, normal, sent)] == ["low", "low", "normal", "normal"]
    found = [(await client.get(job["url"])).json() for job in (normal, sent, low, by_json)]
    assert [job["queue_position"] for job in found] == [0, 1, 2, 3]
    metrics = await metrics_of(client)
    assert (value(metrics, "infill_queue_depth"), value(metrics, "infill_queue_low_priority_depth")) == (4, 2)


@pytest.mark.parametrize("wrong", ["high", "LOW", "0"])
async def test_another_value_is_refused_by_name(client: httpx.AsyncClient, wrong: str) -> None:
    for answer in (
        await submit(client, priority=wrong),
        await client.post("/v1/inpaint", json=BODY | {"priority": wrong}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field")
        assert "priority" in answer.json()["detail"] and "'low'" in answer.json()["detail"]


async def test_the_same_key_with_another_priority_is_another_request(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    await submit(client, key)
    assert (await submit(client, key, priority="low")).json()["code"] == "idempotency_conflict"


async def test_a_queue_full_of_low_priority_refuses_that_and_nothing_else(redis_url: str, connection: Redis) -> None:
    async with serve(ApiSettings(redis_url=redis_url, queue_limit=4, caller_share=1)) as client:
        answers = [await submit(client, priority="low") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        assert answers[2].json()["code"] == "queue_full" and answers[2].headers["Retry-After"]
        assert [(await submit(client)).status_code for _ in range(5)] == [202] * 4 + [429]
        limits = (await client.get("/v1/capabilities")).json()["limits"]
        assert (limits["queue"], limits["queue_low_priority"]) == (4, 2)
    assert connection.llen("rq:queue:inpaint") == 6
