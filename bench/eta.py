"""What callers are told of the time their job will take, against the time it took: ``python -m bench.eta``.

Starts the real service and sends bursts of equal jobs, looking at all of them while they wait and run. Told over real:
1 is right, below 1 is too short. What lies within the last 0.3 s is left aside.
"""

import argparse
import statistics
import time
from collections import defaultdict

import httpx

from bench.machine import describe
from bench.overhead import photo_and_mask, quantile
from bench.service import running_service

LOOK_S = 0.03
LAST_S = 0.3


def burst(client: httpx.Client, jobs: int, steps: int) -> dict[str, list[float]]:
    """Told over real, at every look, by the job's status then."""
    photo, mask = photo_and_mask(512)
    told: dict[str, list[tuple[str, float, float]]] = {}  # job -> status, moment, seconds that it would still take
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
                told[job_id].append((job["status"], at, eta_ms / 1000))
        time.sleep(LOOK_S)
    ratios = defaultdict(list)
    for job_id, looks in told.items():
        for status, at, eta_s in looks:
            if ended[job_id] - at > LAST_S:
                ratios[status].append(eta_s / (ended[job_id] - at))
    return ratios


def report(ratios: dict[str, list[float]]) -> str:
    """The median of each status, and the tenth and ninetieth percentile."""
    return "; ".join(
        f"{status}: told/real {statistics.median(found):.2f} "
        f"({quantile(found, 0.1):.2f} to {quantile(found, 0.9):.2f}, {len(found)} looks)"
        for status, found in ratios.items()
    )


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
