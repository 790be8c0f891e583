"""The estimated time of a job against the time it took: ``python -m bench.eta``.

Starts the real service and sends bursts of equal jobs, looking at all of them while they wait and run. Told over real:
1 is right, below 1 is too short. What lies within the last 0.3 s is left aside.
"""

import argparse
import statistics
import time
from collections import defaultdict

import httpx

from bench.overhead import photo_and_mask, quantile
from bench.record import Record, keep_option
from bench.running import running_service

LOOK_S = 0.03
LAST_S = 0.3
STATUSES = ("queued", "running")
MEANING = "`eta_ms` over the time that it really took, medians over all looks (tenth and ninetieth percentile)."


def burst(client: httpx.Client, jobs: int, steps: int) -> dict[str, list[float]]:
    """Told over real, at every look, by the job's status then."""
    photo, mask = photo_and_mask(512)
    estimates: dict[str, list[tuple[str, float, float]]] = {}  # job -> status, moment, seconds that it would still take
    for seed in range(jobs):
        fields = {"seed": str(seed), "num_inference_steps": str(steps)}
        answer = client.post("/v1/inpaint", files={"image": photo, "mask": mask}, data=fields)
        estimates[answer.raise_for_status().json()["id"]] = []
    ended: dict[str, float] = {}
    while len(ended) < jobs:
        for job_id in estimates.keys() - ended.keys():
            job, at = client.get(f"/v1/jobs/{job_id}").json(), time.monotonic()
            if job["ended_at"]:
                ended[job_id] = at
            elif (eta_ms := job["progress"]["eta_ms"]) is not None:
                estimates[job_id].append((job["status"], at, eta_ms / 1000))
        time.sleep(LOOK_S)
    ratios = defaultdict(list)
    for job_id, looks in estimates.items():
        for status, at, eta_s in looks:
            if ended[job_id] - at > LAST_S:
                ratios[status].append(eta_s / (ended[job_id] - at))
    return ratios


def cell(found: list[float]) -> str:
    """The median, and the tenth and ninetieth percentile."""
    if not found:
        return ""
    low, high = quantile(found, 0.1), quantile(found, 0.9)
    return f"{statistics.median(found):.2f} ({low:.2f} to {high:.2f}, {len(found)} looks)"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.eta", description=__doc__, parents=[keep_option()])
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 4, 12], help="in a burst")
    parser.add_argument("--steps", type=int, default=20)
    chosen = parser.parse_args()
    with running_service() as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        record = Record(["jobs at once", *STATUSES], notes=[MEANING, f"Jobs of {chosen.steps} steps."])
        burst(client, 1, chosen.steps)  # the first request of everything costs more
        for jobs in chosen.jobs:
            ratios = burst(client, jobs, chosen.steps)
            record.add(str(jobs), *(cell(ratios.get(status, [])) for status in STATUSES))
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
