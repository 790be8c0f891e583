"""Many jobs, and nothing is left or has grown: ``python -m tests.e2e.soak --jobs 2000``.

Succeeding and canceled jobs, waiting and running ones, with and without idempotency and API keys, on a service whose
lifetimes are short. Prints Redis' memory and keys and the resident memory of worker and API along the way.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
from redis import Redis

from jobs import keys
from tests.e2e.pictures import noise_and_mask
from tests.e2e.stack import Process, Stack, wait_for
from tests.redis_server import RedisServer

CALLERS = 8
RESULT_TTL_S = 8
RECORD_TTL_S = 20
SETTINGS = {
    "INFILL_RESULT_TTL_S": str(RESULT_TTL_S),
    "INFILL_RECORD_TTL_S": str(RECORD_TTL_S),
    "INFILL_SEATS": "4",
}
SAMPLE_EVERY = 100
WARM = 500
"""Jobs after which a process has everything loaded and its allocator has seen its largest moments."""
TELLS_GROWTH = WARM + 2 * SAMPLE_EVERY
SLACK_BYTES = 1_000_000
GROWTH_BYTES = 4_000_000
"""What resident memory may move by chance between two quarters of a run."""
KEPT = {keys.ENDED, "rq:queues"}
"""The drain rate's sample, a list of bounded length; and the names of queues that were ever used: one."""
MB = 1e6


@dataclass(frozen=True)
class Sample:
    jobs: int
    redis_bytes: int
    redis_keys: int
    worker_bytes: int
    api_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.jobs:6} jobs: Redis {self.redis_bytes / MB:7.2f} MB {self.redis_keys:6} keys, "
            f"worker {self.worker_bytes / MB:7.1f} MB, API {self.api_bytes / MB:7.1f} MB"
        )


class Soak:
    """Made before any job: what Redis holds then is the base line."""

    def __init__(self, stack: Stack, connection: Redis) -> None:
        self.stack = stack
        self.connection = connection
        self.keys_before = key_names(connection)
        self.samples: list[Sample] = []
        self.sample(0)
        self.photo, self.mask = noise_and_mask(1)

    def run(self, jobs: int) -> None:
        """Run them to their ends, ``CALLERS`` at a time."""
        with self.stack.client() as client, ThreadPoolExecutor(CALLERS) as callers:
            for count, _ in enumerate(callers.map(lambda index: self._job(client, index), range(jobs)), 1):
                if count % SAMPLE_EVERY == 0 or count == jobs:
                    self.sample(count)

    def _job(self, client: httpx.Client, index: int) -> None:
        headers = {"Idempotency-Key": f"k{index}"} if index % 3 == 0 else {}
        if index % 10 == 1:
            self._cancel_one(client, headers, when_it_runs=index % 20 == 1)
            return
        job = self._submit(client, headers | {"Prefer": "wait=60"}, num_inference_steps="1").json()
        assert job["status"] == "succeeded", job
        assert client.get(job["images"][0]["url"]).is_success

    def _cancel_one(self, client: httpx.Client, headers: dict[str, str], when_it_runs: bool) -> None:
        job_id = self._submit(client, headers, num_inference_steps="200").json()["id"]
        if when_it_runs:
            wait_for(client, job_id, "running")
        client.delete(f"/v1/jobs/{job_id}").raise_for_status()
        assert wait_for(client, job_id)["status"] == "canceled"

    def _submit(self, client: httpx.Client, headers: dict[str, str], **fields: str) -> httpx.Response:
        files = {"image": self.photo, "mask": self.mask}
        return client.post("/v1/inpaint", files=files, data=fields, headers=headers).raise_for_status()

    def sample(self, jobs: int) -> None:
        self.samples.append(
            Sample(
                jobs,
                int(self.connection.info("memory")["used_memory"]),
                self.connection.dbsize(),
                resident_bytes(self.stack.workers[0]),
                resident_bytes(self.stack.apis[0]),
            )
        )

    # ---- the reckoning

    def wait_until_gone(self) -> None:
        """Return when no key is left but those of the base line and ``KEPT``; hold Redis' memory against its own."""
        deadline = time.monotonic() + RECORD_TTL_S + 15
        while left := key_names(self.connection) - self.keys_before - KEPT:
            assert time.monotonic() < deadline, f"{len(left)} keys are left, of which {sorted(left)[:10]}"
            time.sleep(0.2)
        assert self.connection.llen(keys.ENDED) <= 64
        self.sample(self.samples[-1].jobs)
        assert max(sample.redis_keys for sample in self.samples) > len(self.keys_before) + 10, "nothing was measured"
        assert self.samples[-1].redis_bytes < self.samples[0].redis_bytes + SLACK_BYTES, self.samples[-1]

    def check_growth(self) -> None:
        """Worker and API, by the median of the first and of the last third of the samples once warm."""
        warm = [sample for sample in self.samples if sample.jobs >= WARM]
        third = len(warm) // 3
        for name in ("worker_bytes", "api_bytes"):
            first, last = (median(getattr(s, name) for s in part) for part in (warm[:third], warm[-third:]))
            assert last - first < GROWTH_BYTES, f"{name} grew from {first / MB:.1f} to {last / MB:.1f} MB"


def key_names(connection: Redis) -> set[str]:
    """All keys but the locks that a worker takes for a moment while it cleans up."""
    return {key.decode() for key in connection.scan_iter() if not key.startswith(b"rq:clean_")}


def resident_bytes(process: Process) -> int:
    """Linux' own figure, which it keeps in KiB."""
    status = Path(f"/proc/{process.popen.pid}/status").read_text()
    return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    jobs = parser.parse_args().jobs
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder) / "redis", append_only=True) as server,
        Redis.from_url(server.url) as connection,
        Stack(server.url, Path(folder), **SETTINGS) as stack,
    ):
        stack.start_worker()
        stack.start_api()
        stack.wait_until_ready()
        soak = Soak(stack, connection)
        began = time.monotonic()
        soak.run(jobs)
        print(f"{jobs} jobs in {time.monotonic() - began:.0f} s", flush=True)
        try:
            soak.wait_until_gone()
            if jobs >= TELLS_GROWTH:
                soak.check_growth()
        finally:
            print(*soak.samples, sep="\n", flush=True)
    growth = "have not grown" if jobs >= TELLS_GROWTH else f"were not judged: that takes {TELLS_GROWTH} jobs"
    print(f"Redis is back at its base line; worker and API {growth}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
