"""The submit path: ``POST /v1/inpaint`` accepted a second, the API on one core. ``python -m bench.submit``.

Redis and the API run, no worker. The API is pinned to one core, everything else (Redis, callers) to the others. Uploads
are about 1 MB. A round fills the queue up to 250 jobs, nearly its usual limit of 256; between rounds Redis is emptied.
The API's own processor time a request is reported too: it says what the core could do were nobody else on it.

``--keys`` instead sets APIs beside each other, in turns: one that asks for no key, one that does, and one that counts
the caller's calls, jobs and megapixels as well, with limits that are never reached.
"""

import argparse
import asyncio
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np
from PIL import Image
from redis import Redis

from bench.overhead import photo_and_mask, quantile
from bench.processor import used_s
from bench.record import Record, keep_option
from bench.running import RunningApi, running_apis
from jobs.api_keys import ApiKeys
from jobs.connection import connect_api

QUEUE = 250
"""Requests in a round: the queue's usual limit is 256, and so many pictures fill a quarter of Redis' memory."""
FIGURES = ("accepted/s (least to most)", "ms of the core each", "p50, p95, p99 ms")


def upload(kind: str) -> tuple[bytes, bytes]:
    """A picture of about 1 MB and its mask."""
    if kind == "png":
        return photo_and_mask(832)
    photo, mask = photo_and_mask(1408)
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(photo)) as image:
        rng = np.random.default_rng(1)
        grain = np.clip(np.asarray(image).astype(int) + rng.integers(-24, 25, (1408, 1408, 3)), 0, 255)
    Image.fromarray(grain.astype(np.uint8)).save(buffer, "JPEG", quality=91)
    return buffer.getvalue(), mask


LIMITS = dict.fromkeys(("CALLS_PER_MINUTE", "CALLER_JOBS", "CALLER_MEGAPIXELS_PER_DAY"), "1000000")
SIDES: dict[str, dict[str, str]] = {
    "without keys": {"INFILL_AUTH": "off"},
    "with keys": {"INFILL_AUTH": "on"},
    "with keys and limits": {"INFILL_AUTH": "on"} | {f"INFILL_{name}": value for name, value in LIMITS.items()},
}


@dataclass
class Rounds:
    """What the rounds with one API came to."""

    api: RunningApi
    rates: list[float] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    core_s: float = 0.0

    def round(self, connection: Redis, files: dict[str, bytes], clients: int, seconds: float, counts: bool) -> None:
        """One round, with a key that is new to the API; Redis is emptied at its end."""
        key, _ = ApiKeys(connection).create("bench")
        before_s = used_s(self.api.pid)
        rate, latencies = asyncio.run(submit(self.api.url, key, files, clients, seconds))
        if counts:
            self.core_s += used_s(self.api.pid) - before_s
            self.rates.append(rate)
            self.walls += latencies
        connection.flushdb()

    @property
    def core_ms(self) -> float:
        """Of the API's core, a request."""
        return 1000 * self.core_s / len(self.walls)

    def cells(self) -> list[str]:
        """The cells of ``FIGURES``: median of the rounds, and the latencies of all."""
        accepted = f"{quantile(self.rates, 0.5):.0f} ({min(self.rates):.0f} to {max(self.rates):.0f})"
        times = ", ".join(f"{quantile(self.walls, share):.0f}" for share in (0.5, 0.95, 0.99))
        return [accepted, f"{self.core_ms:.1f}", times]


async def submit(
    url: str, key: str, files: dict[str, bytes], clients: int, seconds: float
) -> tuple[float, list[float]]:
    """One round. Returns accepted requests a second and the wall times in ms. Anything but a 202 ends the program."""
    walls: list[float] = []
    left = iter(range(QUEUE))
    began = time.perf_counter()

    async def caller(client: httpx.AsyncClient) -> None:
        for _ in left:
            sent = time.perf_counter()
            if sent - began > seconds:
                return
            answer = await client.post(f"{url}/v1/inpaint", files=files)
            if answer.status_code != httpx.codes.ACCEPTED:
                raise SystemExit(f"status {answer.status_code}: {answer.text[:300]}")
            walls.append((time.perf_counter() - sent) * 1000)

    async with httpx.AsyncClient(timeout=60, trust_env=False, headers={"X-API-Key": key}) as client:
        await asyncio.gather(*(caller(client) for _ in range(clients)))
    return len(walls) / (time.perf_counter() - began), walls


def measure(
    redis_url: str, apis: Sequence[RunningApi], files: dict[str, bytes], clients: int, chosen: argparse.Namespace
) -> list[Rounds]:
    """Rounds with one API after another, in turns. The first of each is a warm-up and not counted."""
    found = [Rounds(api) for api in apis]
    with connect_api(redis_url) as connection:
        for index in range(chosen.rounds + 1):
            for one in found if index % 2 else reversed(found):
                one.round(connection, files, clients, chosen.seconds, counts=index > 0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.submit", description=__doc__, parents=[keep_option()])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="a round begins no request after this")
    parser.add_argument("--keys", action="store_true", help="without keys, with keys, with keys and limits, in turns")
    parser.add_argument("--uploads", nargs="+", choices=("jpeg", "png"), default=["jpeg", "png"])
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])  # Redis, too, is started from here
    sides = SIDES if chosen.keys else {"": {}}
    columns = ["upload", "clients", *(["", "core, times"] if chosen.keys else []), *FIGURES]
    record = Record(columns, notes=[f"{chosen.rounds} rounds; the API on core {cores[0]}."])
    with running_apis(cores[0], list(sides.values())) as (redis_url, apis):
        for kind in chosen.uploads:
            image, mask = upload(kind)
            what, files = f"{kind}, {len(image) / 1e6:.2f} MB", {"image": image, "mask": mask}
            for clients in chosen.clients:
                found = measure(redis_url, apis, files, clients, chosen)
                for name, one in zip(sides, found, strict=True):
                    beside = [name, f"{one.core_ms / found[0].core_ms:.3f}"] if chosen.keys else []
                    record.add(what, str(clients), *beside, *one.cells())
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
