"""Events have ids, and a stream that was cut off goes on after the last one that arrived."""

import asyncio

import anyio
import httpx
import pytest

from app.settings import ApiSettings
from tests.app.next_jobs import IMAGE
from tests.app.processes import ApiProcess
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files, submit

pytestmark = pytest.mark.anyio


async def events_of(client: httpx.AsyncClient, job_id: str, last: str | None = None) -> list[dict[str, str]]:
    """The fields of each event, of a stream that ends by itself."""
    headers = {} if last is None else {"Last-Event-ID": last}
    response = await client.get(f"/v1/jobs/{job_id}/events", headers=headers)
    assert response.status_code == 200
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


@pytest.fixture
def brief(redis_url: str) -> ApiSettings:
    """Streams end after 0.5 s, as if the connection had been cut."""
    return ApiSettings(redis_url=redis_url, max_stream_s=0.5, poll_s=0.1)


async def test_each_event_has_an_id_of_its_own_and_the_time_after_which_to_come_again(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job_id = (await submit(client)).json()["id"]

    async def run() -> None:
        await anyio.sleep(0.3)
        settler.start(job_id)
        await anyio.sleep(0.3)
        settler.succeed(job_id, [IMAGE])

    events, _ = await asyncio.gather(events_of(client, job_id), run())
    assert len({event["id"] for event in events}) == len(events) >= 3
    assert {event["retry"] for event in events} == {"2000"}


async def test_what_was_seen_is_not_sent_again_and_what_came_since_is(brief: ApiSettings, settler: Settler) -> None:
    async with serve(brief) as client, serve(brief) as replica:
        job_id = (await submit(client)).json()["id"]
        settler.start(job_id)
        (first,) = await events_of(client, job_id)
        assert await events_of(replica, job_id, first["id"]) == []
        settler.step(job_id, 3)
        (second,) = await events_of(replica, job_id, first["id"])
        assert '"step":3' in second["data"] and second["id"] != first["id"]
        settler.succeed(job_id, [IMAGE])
        (end,) = await events_of(client, job_id, second["id"])
        assert end["event"] == "end"


async def test_a_stream_that_is_resumed_after_its_end_is_a_204(client: httpx.AsyncClient) -> None:
    job_id = (await submit(client)).json()["id"]
    await client.delete(f"/v1/jobs/{job_id}")
    (end,) = await events_of(client, job_id)
    for _ in range(2):
        response = await client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": end["id"]})
        assert (response.status_code, response.content) == (204, b"")


def test_a_204_leaves_the_connection_usable(api: ApiProcess) -> None:
    with httpx.Client(base_url=api.url) as client:
        job_id = client.post("/v1/inpaint", files=files()).json()["id"]
        client.delete(f"/v1/jobs/{job_id}")
        events = client.get(f"/v1/jobs/{job_id}/events").text
        seen = next(line.removeprefix("id: ") for line in events.splitlines() if line.startswith("id: "))
        for _ in range(2):
            assert client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": seen}).status_code == 204
            assert client.get(f"/v1/jobs/{job_id}").status_code == 200


@pytest.mark.parametrize("last", ["", "0", "x" * 20_000, "\xff\xfe", "../../etc", "{}", "id: 1", "*", "%0aevent: end"])
async def test_an_id_that_was_never_sent_hides_nothing(client: httpx.AsyncClient, last: str) -> None:
    job_id = (await submit(client)).json()["id"]
    await client.delete(f"/v1/jobs/{job_id}")
    response = await client.get(f"/v1/jobs/{job_id}/events", headers=[(b"Last-Event-ID", last.encode("latin-1"))])
    assert response.status_code == 200 and "event: end" in response.text
    assert not last or f"id: {last}\n" not in response.text


async def test_the_id_of_another_jobs_event_hides_nothing(client: httpx.AsyncClient) -> None:
    ids = [(await submit(client)).json()["id"] for _ in range(2)]
    for job_id in ids:
        await client.delete(f"/v1/jobs/{job_id}")
    (end,) = await events_of(client, ids[0])
    assert [event["event"] for event in await events_of(client, ids[1], end["id"])] == ["end"]
