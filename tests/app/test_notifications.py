"""Notices of jobs' changes, over a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import Redis

from app.notifications import Changes
from jobs import keys
from jobs.settings import QueueSettings
from jobs.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def changes(redis_url: str) -> AsyncIterator[Changes]:
    changes = Changes(redis_url)
    with changes.listen("any") as begun:  # woken once the subscription stands
        listening = asyncio.create_task(changes.run())
        await asyncio.wait_for(begun.wait(), 5)
    yield changes
    await changes.stop(listening)


async def test_who_waits_for_an_end_is_not_woken_by_steps(changes: Changes, redis_url: str, connection: Redis) -> None:
    store = Store(connection, QueueSettings(redis_url=redis_url))
    with changes.listen("j") as every, changes.listen("j", end_only=True) as end:
        for event in (every, end):
            event.clear()  # set once when the subscription began
        connection.publish(keys.CHANGES, "j")
        await asyncio.wait_for(every.wait(), 5)
        assert not end.is_set()
        every.clear()
        store.record_end("j")
        await asyncio.wait_for(asyncio.gather(every.wait(), end.wait()), 5)
