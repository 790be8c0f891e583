"""What callers are told of the time their job will take, against the time it took: ``python -m bench.eta``.

Starts the real service and sends bursts of equal jobs, looking at all of them while they wait and run. Told over real:
1 is right, below 1 is too short. What lies within the last 0.3 s is left aside.
"""

import argparse
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass

import httpx

from bench.machine import describe
from bench.overhead import photo_and_mask, quantile
from bench.service import running_service

LOOK_S = 0.03
LAST_S = 0.3


@dataclass(frozen=True)
class Told:
    """At a moment, by the monotonic clock, of a job in this status: seconds that it would still take."""

    at: float
    status: str
    eta_s: float


def burst(client: httpx.Client, jobs: int, steps: int) -> dict[str, list[tuple[Told, float]]]:
    """Everything that was told, by status, and the seconds that it really took."""
    photo, mask = photo_and_mask(512)
    told: dict[str, list[Told]] = {}
    for seed in range(jobs):
        fields = {"seed": str(seed), "num_inference_steps": str(steps)}
        answer = client.post("/v1/inpaint", files={"image": photo, "mask": mask}, data=fields)
        told[answer.raise_for_status().json()["id"]] = []
    ended: dict[str, float] = {}
    while len(ended) < jobs:
        for job_id in told.keys() - ended.keys():
            job, at = client.get(f"/v1/jobs/{job_id}").json(), time.monotonic()
            if job["ended_at"]:
                ended[job_id] = at
            elif (eta_ms := job["progress"]["eta_ms"]) is not None:
                told[job_id].append(Told(at, job["status"], eta_ms / 1000))
        time.sleep(LOOK_S)
    found = defaultdict(list)
    for job_id, words in told.items():
        for word in words:
            found[word.status].append((word, ended[job_id] - word.at))
    return found


def report(found: dict[str, list[tuple[Told, float]]]) -> str:
    shown = []
    for status in ("queued", "running"):
        ratios = [word.eta_s / took for word, took in found.get(status, []) if took > LAST_S]
        if ratios:
            middle, low, high = statistics.median(ratios), quantile(ratios, 0.1), quantile(ratios, 0.9)
            shown.append(f"{status}: told/real {middle:.2f} ({low:.2f} to {high:.2f}, {len(ratios)} looks)")
    return "; ".join(shown)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.eta", description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 4, 12], help="in a burst")
    parser.add_argument("--steps", type=int, default=20)
    chosen = parser.parse_args()
    with running_service() as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        print(describe())
        burst(client, 1, chosen.steps)  # the first request of everything costs more
        for jobs in chosen.jobs:
            print(f"{jobs} jobs at once, {chosen.steps} steps: {report(burst(client, jobs, chosen.steps))}", flush=True)


if __name__ == "__main__":
    main()
