"""The API as a real process under uvicorn."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.redis_server import free_port
from tests.tethered import tethered

ROOT = Path(__file__).parents[2]


@dataclass
class ApiProcess:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def log_text(self) -> str:
        return self.log.read_text()


@contextmanager
def api_process(folder: Path, redis_url: str, **settings: object) -> Iterator[ApiProcess]:
    """``python -m app`` with these settings, up and answering; killed at the end if it still runs."""
    port = free_port()
    values = {"redis_url": redis_url, "port": port} | settings
    environment = os.environ | {f"INFILL_{name.upper()}": str(value) for name, value in values.items()}
    log = folder / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            tethered([sys.executable, "-m", "app"]), cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        api = ApiProcess(process, f"http://127.0.0.1:{port}", log)
        _wait_until_up(api)
        yield api
    finally:
        process.kill()
        process.wait()


def _wait_until_up(api: ApiProcess) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and api.process.poll() is None:
        try:
            httpx.get(f"{api.url}/healthz")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the API did not come up: {api.log_text()[-2000:]}")


def submitted(api: ApiProcess) -> float:
    text = httpx.get(f"{api.url}/metrics").text
    return float((re.findall(r"^infill_jobs_submitted_total\{.*\} (.*)$", text, re.MULTILINE) or ["0"])[0])


def spooled_files(api: ApiProcess) -> list[str]:
    return spooled_by(api.process.pid)


def spooled_by(pid: int) -> list[str]:
    """The temporary files that a process has open."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(entry))  # noqa: PTH115
    return [link for link in links if link.endswith("(deleted)") and not link.startswith("/memfd:")]  # the decoders'
