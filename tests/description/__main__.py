"""``python -m tests.description``: calls made up from the OpenAPI description, and whether each answer is as described.

schemathesis makes up the calls, valid and not, to a real API over a real Redis; ``hooks.py`` puts real pictures and
real jobs into some of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from redis import Redis

from app.settings import ApiSettings
from jobs.api_keys import SCOPES, ApiKeys
from jobs.schema import JobProblem
from tests.app.metrics import WORKER
from tests.app.multipart import IMAGE, KIND, PAIR, body
from tests.app.processes import ROOT, api_process
from tests.app.settling import Settler
from tests.redis_server import RedisServer

CHECKS = (
    "problem_conformance",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


def run(folder: Path, examples: int, phases: str, seed: int = 1) -> subprocess.CompletedProcess[str]:
    """Try every operation with up to so many calls a phase. Its output names what was found; its code is 0 for nothing.

    ``phases``: of schemathesis: examples, coverage, fuzzing, stateful.
    """
    limits = {
        "max_stream_s": 0.3,
        "max_wait_s": 1,
        "poll_s": 0.1,
        "queue_limit": 100_000,
        "caller_batches": 100_000,
        "log_level": "ERROR",
        "auth": "on",
    }
    with RedisServer(folder / "redis") as redis, api_process(folder, redis.url, **limits) as api:
        key = key_of(redis.url)
        jobs = ",".join(jobs_in_every_state(api.url, redis.url, {"X-API-Key": key}))
        found = {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.description.hooks", "KNOWN_JOBS": jobs}
        found["KNOWN_BATCHES"] = ",".join(batch(api.url, {"X-API-Key": key}) for _ in range(2))
        options = ["--checks", ",".join(CHECKS), "--phases", phases, "--max-examples", str(examples)]
        options += ["--seed", str(seed), "--generation-database", "none", "--no-color"]
        options += [
            "--header",
            f"X-API-Key: {key}",
            "--generation-with-security-parameters",
            "false",  # a wrong header of the other kind beside the right key is no error
            "--suppress-health-check",
            "all",
            "--continue-on-failure",
            "--warnings",
            "off",
        ]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json", *options]
        # it leaves what it found in the folder that it runs in
        return subprocess.run(command, cwd=folder, env=os.environ | found, capture_output=True, text=True, check=False)


def key_of(redis_url: str) -> str:
    """A new key that may do everything."""
    with Redis.from_url(redis_url) as connection:
        return ApiKeys(connection).create("description", SCOPES)[0]


def jobs_in_every_state(url: str, redis_url: str, key: dict[str, str]) -> list[str]:
    """Ids of jobs that have succeeded, failed, crashed, been canceled, that run, load their model and wait."""
    with Redis.from_url(redis_url) as connection:
        settler = Settler.connect(connection, ApiSettings(redis_url=redis_url))
        settler.queue.store.announce(WORKER, lease_s=3600)
        ended = [submit(url, key) for _ in range(4)]
        for job_id in ended[:3]:
            settler.start(job_id)
        settler.succeed(ended[0], [IMAGE])
        settler.fail(ended[1], JobProblem(code="not_finite", message="The picture's values are not finite."))
        settler.crash(ended[2])
        httpx.delete(f"{url}/v1/jobs/{ended[3]}", headers=key).raise_for_status()
        running = [submit(url, key) for _ in range(2)]
        for job_id in running:
            settler.start(job_id)
        settler.step(running[0], 3, loading=0)
        settler.step(running[1], 0, loading=1)
        return [*ended, *running, submit(url, key)]


def submit(url: str, key: dict[str, str]) -> str:
    answer = httpx.post(f"{url}/v1/inpaint", content=body(*PAIR), headers=key | {"content-type": KIND})
    job_id: str = answer.raise_for_status().json()["id"]
    return job_id


def batch(url: str, key: dict[str, str]) -> str:
    """The id of a new batch, of one line whose picture is none."""
    line = {"custom_id": "a", "image": "bm8gcGljdHVyZQ==", "mask_box": [0, 0, 1, 1]}
    answer = httpx.post(
        f"{url}/v1/batches", content=json.dumps(line), headers=key | {"content-type": "application/jsonl"}
    )
    batch_id: str = answer.raise_for_status().json()["id"]
    return batch_id


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--phases", default="examples,coverage,fuzzing,stateful")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ended = run(Path(folder), asked.examples, asked.phases, asked.seed)
    print(ended.stdout, ended.stderr, sep="\n")
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
