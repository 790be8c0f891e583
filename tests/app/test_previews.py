"""Previews over HTTP: for those who ask, while the job runs, and gone with its end."""

import asyncio
import json
from typing import Any

import anyio
import httpx
import pytest
from redis import Redis

from app.previews import watch_with_previews
from jobs import keys
from jobs.previews import KEPT_S, Preview
from tests.app.problems import assert_problem
from tests.app.settling import Settler
from tests.app.submissions import submit

pytestmark = pytest.mark.anyio

IMAGE = b"\x89PNG image"


def preview_of(step: int) -> Preview:
    return Preview(step=step, steps=20, box=(0, 0, 64, 48), size=(64, 48), image="data:image/jpeg;base64,AAAA")


def show(settler: Settler, job_id: str, step: int) -> None:
    """As a worker does at a step boundary."""
    with settler.queue.connection.pipeline() as pipeline:
        settler.queue.store.previews.write(pipeline, job_id, preview_of(step).model_dump_json())
        settler.queue.store.write_progress(pipeline, job_id, step=step, preview_step=step)
        pipeline.execute()


async def submitted(client: httpx.AsyncClient) -> str:
    return str((await submit(client, num_inference_steps="20")).json()["id"])


async def asked_for(connection: Redis, job_id: str) -> None:
    with anyio.fail_after(5):
        while not connection.exists(keys.preview_wish(job_id)):
            await anyio.sleep(0.01)


async def followed(client: httpx.AsyncClient, job_id: str, query: str = "?preview=1") -> list[tuple[str, Any]]:
    text = (await client.get(f"/v1/jobs/{job_id}/events{query}")).text
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [
        (lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
        for lines in blocks
        if lines[0].startswith("event: ")
    ]


async def test_who_asks_gets_previews_among_the_jobs_changes(
    client: httpx.AsyncClient, settler: Settler, connection: Redis
) -> None:
    job_id = await submitted(client)

    async def run() -> None:
        await asked_for(connection, job_id)
        settler.start(job_id)
        for step in (5, 12):
            show(settler, job_id, step)
            await anyio.sleep(0.3)
        assert 0 < connection.ttl(keys.preview(job_id)) <= KEPT_S
        assert connection.ttl(keys.preview_wish(job_id)) > 0
        settler.succeed(job_id, [IMAGE])

    events, _ = await asyncio.gather(followed(client, job_id), run())
    kinds = [kind for kind, _ in events]
    assert [data for kind, data in events if kind == "preview"] == [
        preview_of(n).model_dump(mode="json") for n in (5, 12)
    ]
    assert kinds[-1] == "end" and set(kinds[:-1]) == {"progress", "preview"}
    assert [job["progress"]["preview_step"] for kind, job in events if kind == "progress"][-1] == 12
    assert not connection.exists(keys.preview(job_id), keys.preview_wish(job_id))


async def test_who_does_not_ask_gets_none_and_has_none_made(
    client: httpx.AsyncClient, settler: Settler, connection: Redis
) -> None:
    job_id = await submitted(client)

    async def run() -> None:
        settler.start(job_id)
        await anyio.sleep(0.3)
        assert not connection.exists(keys.preview_wish(job_id))
        show(settler, job_id, 5)  # somebody else has asked
        await anyio.sleep(0.3)
        settler.succeed(job_id, [IMAGE])

    for_one, for_other, _ = await asyncio.gather(
        followed(client, job_id, ""), followed(client, job_id, "?preview=0"), run()
    )
    assert {kind for kind, _ in for_one + for_other} == {"progress", "end"}


async def test_of_an_ended_job_nothing_is_asked(client: httpx.AsyncClient, connection: Redis) -> None:
    job_id = await submitted(client)
    await client.delete(f"/v1/jobs/{job_id}")
    assert [kind for kind, _ in await followed(client, job_id)] == ["end"]
    assert not connection.exists(keys.preview_wish(job_id))


@pytest.mark.parametrize("value", ["maybe", "2", ""])
async def test_another_value_than_yes_or_no_is_refused(client: httpx.AsyncClient, value: str) -> None:
    job_id = await submitted(client)
    problem = assert_problem(await client.get(f"/v1/jobs/{job_id}/events?preview={value}"), 422, "invalid_field")
    assert problem["detail"].startswith("preview: ")


async def test_a_follower_of_few_gets_them_at_even_distances(
    client: httpx.AsyncClient, settler: Settler, connection: Redis
) -> None:
    job_id = await submitted(client)
    backend = client._transport.app.state.backend  # type: ignore[attr-defined]

    async def follow() -> list[int]:
        found = [one async for one in watch_with_previews(backend, job_id, count=3)]
        return [one.step for one in found if isinstance(one, Preview)]

    async def run() -> None:
        await asked_for(connection, job_id)
        settler.start(job_id)
        for step in range(1, 20):
            show(settler, job_id, step)
            await anyio.sleep(0.1)
        settler.succeed(job_id, [IMAGE])

    steps, _ = await asyncio.gather(follow(), run())
    assert steps == [5, 10, 15]
