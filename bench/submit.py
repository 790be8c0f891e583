"""The submit path: ``POST /v1/inpaint`` accepted a second, the API on one core. ``python -m bench.submit``.

Redis and the API run, no worker. The API is pinned to one core, everything else (Redis, callers) to the others. Uploads
are about 1 MB. A round fills the queue up to 250 jobs, nearly its usual limit of 256; between rounds Redis is emptied.
The API's own processor time a request is reported too: it says what the core could do were nobody else on it.
"""

import argparse
import asyncio
import io
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
from PIL import Image

from bench.machine import describe
from bench.overhead import photo_and_mask, quantile
from bench.processor import used_s
from jobs.connection import connect_api
from launch import ports
from launch.folder import claim
from launch.members import Api
from launch.redis_server import STOP_TIMEOUT_S, RedisServer
from launch.settings import LaunchSettings

READY_TIMEOUT_S = 60.0
QUEUE = 250
"""Requests in a round: the queue's usual limit is 256, and so many pictures fill a quarter of Redis' memory."""


@contextmanager
def running_api(core: int) -> Iterator[tuple[str, str, int]]:
    """Yields the URLs of the API and of Redis, and the API's process id."""
    settings = LaunchSettings(workers=1)
    folder = claim(settings.var_dir, "bench")
    folder.clear_redis()
    redis, port = RedisServer(folder, settings.redis_maxmemory), ports.reserve_any("127.0.0.1")
    redis.start()
    redis.wait(lambda: None, print)
    api = Api(settings, folder, redis.url, port.number)
    try:
        api.start()
        os.sched_setaffinity(api.process.pid, {core})  # before it has threads; they inherit it
        _wait_until_up(f"http://127.0.0.1:{port.number}")
        yield f"http://127.0.0.1:{port.number}", redis.url, api.process.pid
    finally:
        api.send(signal.SIGTERM)
        api.end(5)
        redis.end(STOP_TIMEOUT_S)
        for held in (redis, port, folder):
            held.release()


def _wait_until_up(url: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/healthz", timeout=5, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit("The API does not answer.")


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


async def submit(url: str, files: dict[str, bytes], clients: int, seconds: float) -> tuple[float, list[float]]:
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

    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        await asyncio.gather(*(caller(client) for _ in range(clients)))
    return len(walls) / (time.perf_counter() - began), walls


def measure(api: tuple[str, str, int], files: dict[str, bytes], clients: int, chosen: argparse.Namespace) -> str:
    """A line: median of the rounds, and the latencies of all; the first round is a warm-up and not counted."""
    (url, redis_url, pid), core_s = api, 0.0
    rates, walls = [], []
    with connect_api(redis_url) as connection:
        for index in range(chosen.rounds + 1):
            before_s = used_s(pid)
            rate, latencies = asyncio.run(submit(url, files, clients, chosen.seconds))
            connection.flushdb()
            if index:
                core_s += used_s(pid) - before_s
                rates.append(rate)
                walls += latencies
    spread = f"{min(rates):.0f} to {max(rates):.0f}"
    times = ", ".join(f"p{share:g} {quantile(walls, share / 100):.0f} ms" for share in (50, 95, 99))
    core = f"{1000 * core_s / len(walls):.1f} ms of the core each"
    return f"{quantile(rates, 0.5):.0f} accepted/s ({spread} in {len(rates)} rounds), {core}, {times}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.submit", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="a round begins no request after this")
    chosen = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])  # Redis, too, is started from here
    print(f"{describe()}; the API on core {cores[0]}")
    with running_api(cores[0]) as api:
        for kind in ("jpeg", "png"):
            image, mask = upload(kind)
            files = {"image": image, "mask": mask}
            for clients in chosen.clients:
                line = measure(api, files, clients, chosen)
                print(f"{kind}, {len(image) / 1e6:.2f} MB, {clients} clients: {line}", flush=True)


if __name__ == "__main__":
    main()
