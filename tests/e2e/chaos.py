"""Random faults against the real service, then a reckoning: ``make chaos``, or ``python -m tests.e2e.chaos --seed 7``.

Submits jobs while workers are killed, stopped, frozen and drained, Redis is killed and restarted, jobs are canceled,
and uploads are garbage or lost. At the end every accepted job must have ended once, with a reason where it failed. The
seed decides what is done and in which order; the machine decides what each fault hits.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from redis.exceptions import RedisError

from tests.e2e.fleet import LEASE_S, Fleet
from tests.e2e.pictures import noise_and_mask
from tests.redis_server import RedisServer

WORKERS = 2
MAX_ATTEMPTS = 8
SETTLE_S = 240
FAULT_SHARE = 0.5
REFUSALS = (429, 503)


@dataclass
class Accepted:
    """A job that got a 202 (or was already there under its key)."""

    job_id: str
    cancel_asked: bool = False
    sabotaged: bool = False


@dataclass
class Chaos:
    """One seeded run."""

    fleet: Fleet
    client: httpx.Client
    seed: int
    accepted: list[Accepted] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    frozen: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.redis = Redis.from_url(self.fleet.server.url)
        self.photo, self.mask = noise_and_mask(self.seed)

    def run(self, jobs: int) -> None:
        faults = [self.kill, self.drain, self.freeze, self.restart_redis, self.cancel, self.cancel]
        others = [self.garbage, self.sabotage]
        while len(self.accepted) < jobs:
            for _ in range(min(self.random.randint(1, 6), jobs - len(self.accepted))):
                self.submit()
            if self.random.random() < FAULT_SHARE:
                self.random.choice(faults)()
            if self.random.random() < FAULT_SHARE / 3:
                self.random.choice(others)()
            self.thaw()
            self.fleet.start(WORKERS)
            time.sleep(self.random.random() * 0.4)

    # ---- what happens

    def submit(self) -> None:
        """Try, as a careful client does, with one idempotency key until there is an answer."""
        key = f"{self.seed}-{len(self.accepted)}-{self.random.random()}"
        steps = str(self.random.randint(2, 16))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = self._post(self.photo, {"num_inference_steps": steps, "strength": "0.65", "seed": "1"}, key)
            if answer is not None and answer.status_code in (200, 202):
                self.accepted.append(Accepted(answer.json()["id"]))
                self.tally["accepted"] += 1
                return
            assert answer is None or answer.status_code in REFUSALS, answer.text
            self.tally["refused or unanswered, tried again"] += 1
            time.sleep(0.3)
        raise AssertionError("no answer within 60 s")

    def _post(self, image: bytes, fields: dict[str, str], key: str) -> httpx.Response | None:
        with suppress(httpx.TransportError):
            files = {"image": image, "mask": self.mask}
            return self.client.post("/v1/inpaint", files=files, data=fields, headers={"Idempotency-Key": key})
        return None

    def kill(self) -> None:
        if living := self._living():
            self.tally["workers killed"] += 1
            self.fleet.kill(self._busiest(living))

    def drain(self) -> None:
        if living := self._living():
            self.tally["workers sent SIGTERM"] += 1
            self.fleet.named.pop(self.random.choice(living)).send(signal.SIGTERM)

    def freeze(self) -> None:
        """Longer than the lease, so that others take its jobs."""
        if living := self._living():
            name = self._busiest(living)
            self.tally["workers frozen"] += 1
            self.fleet.named[name].send(signal.SIGSTOP)
            self.frozen.append((name, time.monotonic() + LEASE_S + 2))

    def thaw(self, at_once: bool = False) -> None:
        for name, due in list(self.frozen):
            if at_once or time.monotonic() > due:
                self.frozen.remove((name, due))
                if process := self.fleet.named.get(name):
                    process.send(signal.SIGCONT)

    def _busiest(self, living: list[str]) -> str:
        """The worker that says it has most jobs, so that the fault hurts; any one while Redis is away."""
        jobs = self.fleet.jobs_at_work()
        return max(living, key=lambda name: len(jobs.get(name, []))) if jobs else self.random.choice(living)

    def _living(self) -> list[str]:
        frozen = {name for name, _ in self.frozen}
        return sorted(
            name for name, worker in self.fleet.named.items() if worker.popen.poll() is None and name not in frozen
        )

    def restart_redis(self) -> None:
        self.tally["Redis killed"] += 1
        self.fleet.server.kill()
        time.sleep(self.random.random() * 2)
        self.fleet.server.start()

    def cancel(self) -> None:
        """A recent job: queued, running or just ended."""
        job = self.random.choice(self.accepted[-6:])
        with suppress(httpx.TransportError):
            answer = self.client.delete(f"/v1/jobs/{job.job_id}")
            assert answer.status_code in (200, 202, 409, *REFUSALS), answer.text
            job.cancel_asked |= answer.status_code != 409
            self.tally["cancels asked"] += 1

    def garbage(self) -> None:
        answer = self._post(self.random.randbytes(2000), {}, f"garbage-{self.random.random()}")
        assert answer is None or answer.status_code in (422, *REFUSALS), answer.text
        self.tally["garbage refused"] += 1

    def sabotage(self) -> None:
        """Take a job's upload away behind its back; it must fail with a reason unless it has been fetched."""
        job = self.accepted[-1]
        with suppress(RedisError):
            self.redis.delete(f"infill:{job.job_id}:image")
            job.sabotaged = True
            self.tally["uploads taken away"] += 1

    # ---- the reckoning

    def settle(self) -> None:
        """Wait until every accepted job has ended."""
        self.thaw(at_once=True)
        deadline = time.monotonic() + SETTLE_S
        waiting = [job.job_id for job in self.accepted]
        while waiting:
            assert time.monotonic() < deadline, f"seed {self.seed}: not ended: {[self._look(job) for job in waiting]}"
            self.fleet.start(WORKERS)
            waiting = [job for job in waiting if self._look(job)["status"] in ("queued", "running")]
            time.sleep(0.2)

    def _look(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/jobs/{job_id}")
        return answer.json() if answer.is_success else {"status": "queued", "answer": answer.status_code}

    def reckon(self) -> None:
        """Every job ended, once, and for a reason; nothing is left behind in Redis."""
        for job in self.accepted:
            view = self._look(job.job_id)
            status = view["status"]
            self.tally[status] += 1
            self.tally["taken up more than once"] += view["attempt"] > 1
            if status == "failed":
                assert view["error"]["code"] == "undecodable_job" and job.sabotaged, view
            if status == "canceled":
                assert job.cancel_asked, view
            if status == "succeeded":
                self._check_result(view)
        for key in ("rq:queue:inpaint", "rq:queue:inpaint:intermediate", "rq:wip:inpaint"):
            assert self._length(key) == 0, key
        left = [key for key in self.redis.scan_iter("infill:*:image") if self.redis.ttl(key) < 0]
        assert not left, left

    def _check_result(self, view: dict[str, Any]) -> None:
        assert view["mask"]["changed_outside_mask"] == 0
        image = self.client.get(view["images"][0]["url"])
        assert image.is_success and image.content[:4] == b"\x89PNG"
        assert self.redis.xlen(f"rq:results:{view['id']}") == 1, "not exactly one result"

    def _length(self, key: str) -> int:
        kind = self.redis.type(key)
        if kind == b"list":
            return self.redis.llen(key)
        return self.redis.zcard(key) if kind == b"zset" else 0


def run_chaos(seed: int, jobs: int, folder: Path) -> Counter[str]:
    """One run from an empty Redis to the reckoning. Raises AssertionError naming what was lost."""
    with (
        RedisServer(folder / "redis", append_only=True) as server,
        Fleet(server, folder, INFILL_MAX_ATTEMPTS=str(MAX_ATTEMPTS)) as fleet,
    ):
        fleet.start_api()
        fleet.start(WORKERS)
        fleet.wait_until_ready()
        with fleet.client() as client:
            chaos = Chaos(fleet, client, seed)
            chaos.run(jobs)
            chaos.settle()
            chaos.reckon()
        return chaos.tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs, with seeds one after another")
    parser.add_argument("--jobs", type=int, default=100)
    arguments = parser.parse_args()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        print(f"seed {seed} ... logs, kept if it fails: {folder}", flush=True)
        tally = run_chaos(seed, arguments.jobs, folder)
        shutil.rmtree(folder)
        told = ", ".join(f"{what} {count}" for what, count in sorted(tally.items()))
        print(f"seed {seed} green in {time.monotonic() - began:.0f} s: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
