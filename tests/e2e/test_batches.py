"""``/v1/batches`` while the API processes that feed it, and workers, are killed."""

import base64
import json
import signal
import time
from pathlib import Path
from typing import Any, cast

import httpx
from redis import Redis

from jobs import keys
from tests.e2e.pictures import noise_and_mask, pixels_of
from tests.e2e.stack import Stack
from tests.redis_server import RedisServer

SETTINGS = {"INFILL_LEASE_S": "3", "INFILL_BEAT_S": "1", "INFILL_BATCH_JOBS": "6"}
LINES = 16


def lines() -> bytes:
    photo, mask = (base64.b64encode(data).decode() for data in noise_and_mask(1))
    common = {"image": photo, "mask": mask, "num_inference_steps": 1}
    return b"\n".join(json.dumps({"custom_id": f"l{seed}", "seed": seed} | common).encode() for seed in range(LINES))


def test_no_line_is_lost_or_doubled_when_the_api_that_feeds_them_and_a_worker_are_killed(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "redis", append_only=True) as server,
        Redis.from_url(server.url) as connection,
        Stack(server.url, tmp_path, **SETTINGS) as stack,
    ):
        for _ in range(2):
            stack.start_api()
        worker = stack.start_worker()
        stack.wait_until_ready()
        stack.wait_until_up()
        with stack.client() as client:
            made = client.post("/v1/batches", content=lines(), headers={"Content-Type": "application/jsonl"}).json()
            assert made["counts"]["total"] == LINES
        when_fed(connection, made, 8)
        killed = kill_the_feeder(stack, connection)
        worker.send(signal.SIGKILL)
        stack.start_worker()
        batch, rows = ended(stack.urls[1 - killed], made)
        assert (batch["status"], batch["counts"]["succeeded"]) == ("completed", LINES)
        assert [(row["custom_id"], row["seeds"]) for row in rows] == [(f"l{seed}", [seed]) for seed in range(LINES)]
        with stack.client(1 - killed) as client:
            assert {pixels_of(client.get(row["images"][0]).content).shape for row in rows} == {(96, 96, 3)}
        assert len(list(connection.scan_iter("rq:job:*"))) == LINES


def when_fed(connection: Redis, batch: dict[str, Any], count: int, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while int(connection.hget(keys.batch(batch["id"]), "fed") or 0) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_the_feeder(stack: Stack, connection: Redis) -> int:
    """Kill the API process that has the lease, and return its index."""
    process = cast(bytes, connection.get(keys.BATCH_FEEDER)).decode().split(":")[1]
    for index, api in enumerate(stack.apis):
        if str(api.popen.pid) == process:
            api.send(signal.SIGKILL)
            api.popen.wait()
            return index
    raise AssertionError("nobody feeds")


def ended(url: str, made: dict[str, Any], timeout_s: float = 120) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    deadline = time.monotonic() + timeout_s
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        while True:
            batch = client.get(made["url"]).json()
            if batch["ended_at"]:
                return batch, [json.loads(row) for row in client.get(made["results_url"]).text.splitlines()]
            assert time.monotonic() < deadline, batch
            time.sleep(0.1)
