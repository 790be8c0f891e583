"""The real service for tests: ``python -m app`` and ``python -m worker`` as processes, on a Redis given to it."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx
from redis import Redis
from redis.exceptions import RedisError

from jobs import keys
from tests.e2e.template import Forked, Template
from tests.factories import multipart
from tests.redis_server import free_port
from tests.tethered import tethered

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "launch" / "sample" / "photo.png"
MASK = ROOT / "launch" / "sample" / "mask.png"


class Process:
    """One child process whose output goes to a file."""

    template: ClassVar[Template | None] = None
    """Forks the workers that need nothing but settings, where a test has set it; else all are started by themselves."""

    def __init__(self, module: str, env: dict[str, str], log: Path) -> None:
        self.log = log
        self.popen: subprocess.Popen[bytes] | Forked
        if self.template and module == "worker" and all(name.startswith(("INFILL_", "OMP_")) for name in env):
            self.popen = self.template.start(env, ROOT, log)
            return
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                tethered([sys.executable, "-m", module]),
                env={**os.environ, **env},
                cwd=ROOT,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def end(self, timeout_s: float = 30) -> int:
        """SIGTERM, then wait; SIGKILL where that does not help."""
        with suppress(ProcessLookupError):
            self.popen.terminate()
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait()


class Stack:
    """API and workers, ended with the ``with`` block or by ``end``. ``env`` holds further settings for all of them."""

    def __init__(self, redis_url: str, folder: Path, **env: str) -> None:
        self.folder = folder
        self.env = {
            "INFILL_REDIS_URL": redis_url,
            "INFILL_TORCH_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            **env,
        }
        self.workers: list[Process] = []
        self.apis: list[Process] = []
        self.urls: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start_api(self) -> str:
        port = free_port()
        env = {**self.env, "INFILL_PORT": str(port), "INFILL_HOST": "127.0.0.1"}
        self.apis.append(Process("app", env, self.folder / f"api-{len(self.apis)}.log"))
        self.urls.append(f"http://127.0.0.1:{port}")
        return self.urls[-1]

    def restart_api(self, index: int) -> None:
        """A new process on the port of one that has died."""
        env = {**self.env, "INFILL_PORT": self.urls[index].rpartition(":")[2], "INFILL_HOST": "127.0.0.1"}
        self.apis[index] = Process("app", env, self.folder / f"api-{index}.log")

    def start_worker(self, **env: str) -> Process:
        worker = Process("worker", {**self.env, **env}, self.folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    def client(self, index: int = 0) -> httpx.Client:
        return httpx.Client(base_url=self.urls[index], timeout=60, trust_env=False)

    def wait_until_up(self, timeout_s: float = 90) -> None:
        """Return when every API process answers, whatever it says of Redis."""
        deadline = time.monotonic() + timeout_s
        for index in range(len(self.urls)):
            with self.client(index) as client:
                while not _answers(client):
                    if time.monotonic() > deadline:
                        raise RuntimeError("not up:\n" + self.logs())
                    time.sleep(0.1)

    def wait_until_ready(self, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        with self.client() as client:
            while time.monotonic() < deadline:
                with suppress(httpx.HTTPError):
                    if client.get("/readyz").status_code == 200:
                        return
                time.sleep(0.1)
        raise RuntimeError("not ready:\n" + self.logs())

    def wait_for_workers(self, count: int, timeout_s: float = 90) -> None:
        deadline = time.monotonic() + timeout_s
        with self.client() as client:
            while time.monotonic() < deadline:
                if len(client.get("/v1/workers").json()["workers"]) == count:
                    return
                time.sleep(0.1)
        raise RuntimeError(f"not {count} workers:\n" + self.logs())

    def jobs_at_work(self) -> dict[str, list[str]]:
        """Names of the living workers and the ids of the jobs each one has, from Redis; empty while that is away."""
        try:
            with Redis.from_url(self.env["INFILL_REDIS_URL"]) as connection:
                names = [name.decode() for name in connection.smembers(keys.WORKERS)]
                found = connection.mget([keys.presence(name) for name in names]) if names else []
        except RedisError:
            return {}
        return {presence["name"]: presence["jobs"] for presence in map(json.loads, filter(None, found))}

    def logs(self) -> str:
        return "\n".join(f"--- {file.name}\n{file.read_text()[-3000:]}" for file in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        for process in [*self.workers, *self.apis]:
            process.end()


def has_ended(job: dict[str, Any]) -> bool:
    return job["status"] in ("succeeded", "failed", "canceled")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def submit(client: httpx.Client, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    """POST the demo photo and mask. The model's own strength runs few of the steps; most tests want jobs that last."""
    files = multipart(PHOTO.read_bytes(), MASK.read_bytes())
    form = {name: str(value) for name, value in ({"strength": 0.65} | fields).items()}
    return client.post("/v1/inpaint", files=files, data=form, headers=headers)


def wait_for(client: httpx.Client, job_id: str, *statuses: str, timeout_s: float = 120) -> dict[str, Any]:
    """Poll until the job has one of ``statuses`` (or has ended)."""
    wanted = set(statuses)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if job["status"] in wanted or (not wanted and has_ended(job)):
            return job
        time.sleep(0.05)
    raise TimeoutError(f"job {job_id} is {job}")


def result_of(client: httpx.Client, job: dict[str, Any], index: int = 0) -> bytes:
    response = client.get(job["images"][index]["url"])
    assert response.status_code == 200, response.text
    return response.content
