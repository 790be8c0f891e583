"""``python -m tests.attack``: every attack against a real stack, with what it cost and how bystanders fared.

A bystander submits a small job, waits for it and asks for /healthz, again and again, while each attack runs. The table
has the processor seconds of API and worker with their children, their peak memory beyond the start's, the answers the
attack received, and the bystander's jobs. The command fails where a process died, a bystander's job did not succeed, or
an answer was a 500.
"""

import argparse
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from tests.attack.files import MAKERS, SMALL, SMALL_MASK, Files, corrupted
from tests.attack.floods import FLOODS
from tests.attack.processes import cpu_s, resident_bytes
from tests.e2e.stack import Stack
from tests.factories import multipart
from tests.redis_server import RedisServer

MIB = 2**20
SHORT = (
    "photo of 5,000 scans",
    "mask of 5,000 scans",
    "segments",
    "a tile",
    "65,535 x 1",
    "odd exif",
    "endless header",
    "unfinished uploads",
    "charset=punycode",
)
TIMES = 2
"""Uploads of each hostile pair, at the same time."""


@dataclass
class Toll:
    """What one attack cost."""

    name: str
    cpu_s: float = 0.0
    peak_bytes: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = ", ".join(f"{count}x {status}" for status, count in sorted(self.statuses.items()))
        bystanders = f"{self.jobs} jobs" + (f", FAILED {self.failures[:2]}" if self.failures else "")
        return f"{self.name:24} {self.cpu_s:7.1f} CPU s {self.peak_bytes / MIB:8.0f} MiB  {bystanders:10} {statuses}"


class Attack:
    """One stack under attack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.url = stack.urls[0]

    @property
    def pids(self) -> list[int]:
        return [process.popen.pid for process in (*self.stack.apis, *self.stack.workers)]

    def run(self, name: str, attack: Callable[[str, Counter[str]], None]) -> Toll:
        """Attack once, with a bystander beside; wait until the queue is empty again."""
        toll, over = Toll(name), threading.Event()
        base, began = resident_bytes_of(self.pids), cpu_s_of(self.pids)
        watchers = [
            threading.Thread(target=self._watch, args=(toll, base, over)),
            threading.Thread(target=self._stand_by, args=(toll, over)),
        ]
        for watcher in watchers:
            watcher.start()
        try:
            attack(self.url, toll.statuses)
            self._drain()
            until = time.monotonic() + 120
            while not (toll.jobs or toll.failures) and time.monotonic() < until:
                time.sleep(0.05)  # an attack that was cut off at once has still to be survived
        finally:
            over.set()
            for watcher in watchers:
                watcher.join()
        toll.cpu_s = cpu_s_of(self.pids) - began
        processes = (*self.stack.apis, *self.stack.workers)
        toll.failures += [f"{process.log.name} died" for process in processes if process.popen.poll() is not None]
        toll.failures += [f"answer {status}" for status in toll.statuses if status.startswith("500")]
        return toll

    def _watch(self, toll: Toll, base: int, over: threading.Event) -> None:
        while not over.wait(0.05):
            toll.peak_bytes = max(toll.peak_bytes, resident_bytes_of(self.pids) - base)

    def _stand_by(self, toll: Toll, over: threading.Event) -> None:
        files = multipart(SMALL, SMALL_MASK)
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as client:
            while not over.is_set():
                try:
                    client.get("/healthz").raise_for_status()
                    answer = client.post(
                        "/v1/inpaint", files=files, data={"num_inference_steps": "1"}, headers={"Prefer": "wait=60"}
                    )
                    if answer.status_code in (429, 503):  # refused with a time: an honest caller comes again
                        time.sleep(min(2, int(answer.headers["Retry-After"])))
                        continue
                    if (status := answer.json().get("status")) not in ("succeeded", "queued", "running", "loading"):
                        toll.failures.append(f"{answer.status_code} {status}")
                    toll.jobs += 1
                except (httpx.HTTPError, ValueError) as error:
                    toll.failures.append(type(error).__name__)
                time.sleep(0.1)

    def _drain(self) -> None:
        """Until nothing runs any more, so that the next attack's toll is its own."""
        until = time.monotonic() + 120
        with httpx.Client(base_url=self.url, timeout=20, trust_env=False) as client:
            while time.monotonic() < until:
                with suppress(httpx.HTTPError):
                    lines = client.get("/metrics").text.splitlines()
                    depth = [line.rpartition(" ")[2] for line in lines if line.startswith("infill_queue_depth ")]
                    if depth and float(depth[0]) == 0:
                        return
                time.sleep(0.2)


def cpu_s_of(pids: list[int]) -> float:
    return sum(cpu_s(pid) for pid in pids)


def resident_bytes_of(pids: list[int]) -> int:
    return sum(resident_bytes(pid) for pid in pids)


def upload(pair: tuple[bytes, bytes], times: int = TIMES) -> Callable[[str, Counter[str]], None]:
    """Submit a pair of files several times at once, and wait for what becomes of it."""

    def one(url: str, statuses: Counter[str]) -> None:
        files = multipart(*pair)
        try:
            answer = httpx.post(
                f"{url}/v1/inpaint", files=files, headers={"Prefer": "wait=60"}, timeout=120, trust_env=False,
                data={"num_inference_steps": "1"},
            )  # fmt: skip
            said = answer.json()
            named = said.get("code") or (said.get("error") or {}).get("code") or said["status"]
            statuses[f"{answer.status_code} {named}"] += 1
        except (httpx.HTTPError, ValueError) as error:
            statuses[type(error).__name__] += 1

    def attack(url: str, statuses: Counter[str]) -> None:
        callers = [threading.Thread(target=one, args=(url, statuses)) for _ in range(times)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()

    return attack


def upload_made(make: Callable[[], Files]) -> Callable[[str, Counter[str]], None]:
    """Make the pair only now: some are large."""
    return upload(make())


def flood(make: Callable[[str], None]) -> Callable[[str, Counter[str]], None]:
    return lambda url, _: make(url)


def submitted(client: httpx.Client, image: bytes, mask: bytes) -> httpx.Response:
    files = multipart(image, mask)
    return client.post("/v1/inpaint", files=files, data={"num_inference_steps": "1"})


def fuzz(count: int, seed: int) -> Callable[[str, Counter[str]], None]:
    """Corrupted uploads, one after another."""

    def attack(url: str, statuses: Counter[str]) -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            for image, mask in corrupted(count, seed):
                while (answer := submitted(client, image, mask)).json().get("code") == "queue_full":
                    time.sleep(0.2)  # each file is judged: those before it have made jobs
                statuses[f"{answer.status_code} {answer.json().get('code', 'accepted')}"] += 1

    return attack


def attacks(names: list[str] | None) -> dict[str, Callable[[], Callable[[str, Counter[str]], None]]]:
    """Name -> what makes the attack, when its turn comes."""
    found: dict[str, Callable[[], Callable[[str, Counter[str]], None]]] = {}
    found |= {name: partial(upload_made, make) for name, make in MAKERS.items()}
    found |= {name: partial(flood, make) for name, make in FLOODS.items()}
    return {name: make for name, make in found.items() if names is None or name in names}


def run(names: list[str] | None, fuzzed: int, seed: int, folder: Path) -> list[Toll]:
    with (
        RedisServer(folder / "redis", options={"maxmemory": "512mb"}) as server,
        Stack(server.url, folder, INFILL_QUEUE_LIMIT="64") as stack,
    ):
        stack.start_api()
        stack.start_worker()
        stack.wait_until_ready()
        attacked, tolls = Attack(stack), []
        chosen = attacks(names)
        if fuzzed:
            chosen[f"{fuzzed} corrupted uploads"] = lambda: fuzz(fuzzed, seed)
        for name, make in chosen.items():
            tolls.append(attacked.run(name, make()))
            print(tolls[-1], flush=True)
    return tolls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="the name of an attack; several are possible")
    parser.add_argument("--short", action="store_true", help="the few that run in CI")
    parser.add_argument("--fuzz", type=int, default=0, metavar="COUNT", help="corrupted uploads instead of attacks")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = [] if options.fuzz else list(SHORT) if options.short else options.only
    with tempfile.TemporaryDirectory() as folder:
        tolls = run(names, options.fuzz, options.seed, Path(folder))
    failures = [f"{toll.name}: {failure}" for toll in tolls for failure in toll.failures]
    print("\n".join(failures) or "every bystander's job succeeded, no process died, no answer was a 500")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
