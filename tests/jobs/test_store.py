"""The store: pixels, progress, cancel flags and presence in Redis."""

import random
import time
from typing import cast

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError

from jobs import keys
from jobs.errors import NotStored
from jobs.previews import KEPT_S
from jobs.settings import QueueSettings
from jobs.store import DRAIN_SAMPLE, Flags, Store
from tests.factories import presence, worker_speed

WIDTHS = {"unet.conv_in": (4, 320)}


@pytest.fixture
def store(connection: Redis) -> Store:
    return Store(connection, QueueSettings(result_ttl_s=50, input_ttl_s=60, record_ttl_s=70))


def test_bytes_come_back_as_they_were(store: Store) -> None:
    every_byte = bytes(range(256))
    store.put_inputs("j", {"image": every_byte, "mask": b""})
    store.put_results("j", [every_byte, b"1"])
    assert store.inputs("j") == {"image": every_byte, "mask": b""}
    assert [store.result("j", k) for k in range(3)] == [every_byte, b"1", None]
    store.drop_inputs("j")
    assert store.inputs("j") == {"image": None, "mask": None}


def test_everything_has_a_lifetime(store: Store, connection: Redis) -> None:
    store.put_inputs("j", {"image": b"i", "mask": b"m"})
    store.put_results("j", [b"r"])
    store.flag_cancel("j")
    store.announce(presence("w"), lease_s=10, speed=worker_speed())
    store.known.put_widths("embedded", WIDTHS)
    with connection.pipeline() as pipeline:
        store.write_progress(pipeline, "j", step=1)
        pipeline.execute()
    lifetimes = {key.decode(): connection.ttl(key) for key in cast("list[bytes]", connection.keys("*"))}
    assert lifetimes.pop(keys.WORKERS) == -1
    expected = {
        keys.picture("j", "image"): 60,
        keys.picture("j", "mask"): 60,
        keys.result("j", 0): 50,
        keys.progress("j"): 70,
    }
    expected |= {keys.cancel("j"): 70, keys.presence("w"): 10, keys.speed("w"): 10, keys.widths("embedded"): 70}
    assert store.known.widths("embedded") == WIDTHS and store.known.widths("other") is None
    assert lifetimes == {name: pytest.approx(seconds, abs=2) for name, seconds in expected.items()}


def test_progress_is_merged_and_announced(store: Store, connection: Redis) -> None:
    with connection.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(keys.CHANGES)
        pubsub.get_message(timeout=1)
        for fields in ({"attempt": 1, "steps": 20}, {"step": 3, "eta_ms": 12.5}):
            with connection.pipeline() as pipeline:
                store.write_progress(pipeline, "j", **fields)
                pipeline.execute()
        message = pubsub.get_message(timeout=1)
    assert message is not None and message["data"] == b"j"
    assert store.progress("j") == {"attempt": 1, "steps": 20, "step": 3, "eta_ms": 12.5}
    assert store.progress("other") == {}


def test_what_is_not_known_any_more_is_no_part_of_the_progress(store: Store, connection: Redis) -> None:
    for fields in ({"step": 3, "eta_ms": 12.5}, {"step": 4, "eta_ms": None}):
        with connection.pipeline() as pipeline:
            store.write_progress(pipeline, "j", **fields)
            pipeline.execute()
    assert store.progress("j") == {"step": 4}


def test_an_end_forgets_inputs_but_not_results_and_not_that_it_was_canceled(store: Store, connection: Redis) -> None:
    store.put_inputs("j", {"image": b"i", "mask": b"m"})
    store.put_results("j", [b"r"])
    store.flag_cancel("j")
    for beside in (keys.caller("j"), keys.workload("j")):
        connection.set(beside, "x")
    store.record_end("j")
    left = cast("list[bytes]", connection.keys("infill:j:*"))
    assert {key.decode() for key in left} == {keys.result("j", 0), keys.cancel("j")}


def test_an_end_wakes_those_who_wait_for_it(store: Store, connection: Redis) -> None:
    with connection.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(keys.ENDS)
        pubsub.get_message(timeout=1)
        store.record_end("j")
        message = pubsub.get_message(timeout=1)
    assert message is not None and message["data"] == b"j"


def test_one_end_makes_no_rate_and_the_latest_stands_first(store: Store, connection: Redis) -> None:
    connection.lpush(keys.ENDED, 1.0)
    assert store.drain_rate() == 0
    store.record_end("j")
    newest, oldest = map(float, connection.lrange(keys.ENDED, 0, -1))
    assert oldest == 1.0 < newest


def test_the_drain_rate_is_measured_over_the_latest_ends(store: Store, connection: Redis) -> None:
    assert store.drain_rate() == 0
    connection.lpush(keys.ENDED, *(time.time() - age for age in range(10, 0, -1)))
    assert store.drain_rate() == pytest.approx(1.0, rel=0.2)
    for _ in range(DRAIN_SAMPLE + 5):
        store.record_end("j")
    assert connection.llen(keys.ENDED) == DRAIN_SAMPLE


def test_flags_are_read_for_many_jobs_at_once(store: Store) -> None:
    store.flag_cancel("b")
    assert store.canceled([]) == set()
    assert store.canceled(["a", "b", "c"]) == {"b"}
    store.previews.ask("c")
    assert store.flags(["a", "b", "c"]) == Flags(canceled={"b"}, previewed={"c"})
    assert store.flags(["c", "a"]) == Flags(canceled=set(), previewed={"c"})


def test_a_preview_and_the_wish_for_it_go_with_the_jobs_end(store: Store, connection: Redis) -> None:
    store.previews.ask("j")
    with store.pipeline() as pipeline:
        store.previews.write(pipeline, "j", "{}")
        pipeline.execute()
    assert (store.previews.latest("j"), store.previews.latest("other")) == ("{}", None)
    assert 0 < connection.ttl(keys.preview("j")) <= KEPT_S and connection.ttl(keys.preview_wish("j")) > 0
    store.record_end("j")
    assert not connection.exists(keys.preview("j"), keys.preview_wish("j"))


def test_workers_live_as_long_as_their_lease(store: Store, connection: Redis) -> None:
    assert store.workers() == []
    for name in ("b", "a"):
        store.announce(presence(name), lease_s=10)
    assert [worker.name for worker in store.workers()] == ["a", "b"]
    connection.delete(keys.presence("a"))
    assert [worker.name for worker in store.workers()] == ["b"]
    assert connection.smembers(keys.WORKERS) == {b"b"}
    connection.set(keys.speed("b"), "{}")
    store.withdraw("b")
    assert not connection.exists(keys.WORKERS, keys.presence("b"), keys.speed("b"))
    assert store.workers() == []


def test_the_memory_share_is_zero_without_a_limit(store: Store, connection: Redis) -> None:
    assert store.memory_share() == 0
    connection.config_set("maxmemory", connection.info("memory")["used_memory"] * 2)
    assert 0.4 < store.memory_share() < 0.6


@pytest.mark.parametrize("put", ["inputs", "results"])
def test_a_picture_that_does_not_fit_is_refused_at_once_and_not_quoted(
    store: Store, connection: Redis, put: str
) -> None:
    picture = random.Random(7).randbytes(6_000_000)
    connection.config_set("maxmemory", connection.info("memory")["used_memory"] + 1_000_000)
    began = time.process_time()
    with pytest.raises((OutOfMemoryError, NotStored)) as caught:
        if put == "inputs":
            store.put_inputs("j", {"image": picture, "mask": b"m"})
        else:
            store.put_results("j", [picture])
    assert time.process_time() - began < 0.5
    assert len(str(caught.value)) < 200
