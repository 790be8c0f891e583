"""The servers that are compared, each with its own way to be asked. All listen on loopback only."""

import base64
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx

from bench.processor import sessions_of_children
from bench.served_model import ServedModel
from bench.throughput.workload import Case
from launch import ports
from launch.errors import LaunchError
from launch.process import Process, tail

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 5.0
STOP_OF_A_STACK_S = 30.0
LONGEST_WAIT_S = 600
AS_THE_PIPELINE = {"strength": "1", "masked_content": "original"}
"""What the baselines run, whatever the catalog says of the model: every step, from noise."""


class Side(ABC):
    """One server. Between its turns it is paused, if it is not idle by itself then."""

    name: str
    label: str

    def __init__(self, url: str) -> None:
        self.url = url
        self.sessions: set[int] = set()  # of its processes

    @abstractmethod
    async def ask(self, client: httpx.AsyncClient, case: Case) -> bytes:
        """One request; returns the PNG. Raises httpx.HTTPError."""

    def pause(self) -> None:  # noqa: B027  # most have nothing to do
        """Called at the end of a turn."""

    def resume(self) -> None:  # noqa: B027
        """Called before a turn."""


class Infill(Side):
    name, label = "a", "Infill"

    def __init__(self, url: str, served: ServedModel) -> None:
        super().__init__(url)
        self.chosen = AS_THE_PIPELINE | {
            "model": served.name,
            "scheduler": served.scheduler,
            "guidance_scale": str(served.guidance_scale),
        }

    async def ask(self, client: httpx.AsyncClient, case: Case) -> bytes:
        headers = {"Accept": "image/png", "Prefer": f"wait={LONGEST_WAIT_S}"}
        fields = _fields(case) | self.chosen
        answer = await client.post(f"{self.url}/v1/inpaint", files=_files(case), data=fields, headers=headers)
        return answer.raise_for_status().content  # 504 without one in time


class Before(Infill):
    """The same service as another checkout has it."""

    name, label = "before", "Infill before"


class Naive(Side):
    name, label = "b", "FastAPI + pipeline + lock"

    async def ask(self, client: httpx.AsyncClient, case: Case) -> bytes:
        answer = await client.post(f"{self.url}/inpaint", files=_files(case), data=_fields(case))
        return answer.raise_for_status().content


class Batched(Side):
    name, label = "c", "the same with LitServe's batching"

    def __init__(self, url: str, process: Process) -> None:
        super().__init__(url)
        self.process = process

    async def ask(self, client: httpx.AsyncClient, case: Case) -> bytes:
        files = {name: base64.b64encode(data).decode() for name, data in _files(case).items()}
        answer = await client.post(f"{self.url}/inpaint", json=files | _fields(case))
        return answer.raise_for_status().content

    def pause(self) -> None:
        """LitServe's loop looks at its queue every millisecond: it would take time from the others' turns."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)


def _files(case: Case) -> dict[str, bytes]:
    return {"image": case.image, "mask": case.mask}


def _fields(case: Case) -> dict[str, str]:
    return {"prompt": case.prompt, "seed": str(case.seed), "num_inference_steps": str(case.steps)}


@contextmanager
def running_sides(
    names: Sequence[str], log_dir: Path, batch: int, wait_ms: float, served: ServedModel | None = None
) -> Iterator[list[Side]]:
    """Start the sides named by their letters, all at once; they wait for their turns. Raises LaunchError.

    A name of more than a letter is the folder of another checkout: the side ``before``.
    """
    model = served or ServedModel()
    log_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        sides: list[Side] = []
        for name in names:
            known = sessions_of_children()
            if name == "a":
                sides.append(Infill(stack.enter_context(_service(model, log_dir)), model))
            elif name == "b":
                sides.append(Naive(stack.enter_context(_baseline("naive", model.options(), log_dir))[0]))
            elif len(name) > 1:
                sides.append(Before(stack.enter_context(_other_checkout(Path(name).resolve(), log_dir)), model))
            else:
                options = ["--batch", str(batch), "--wait-ms", str(wait_ms), *model.options()]
                side = Batched(*stack.enter_context(_baseline("batched", options, log_dir)))
                sides.append(side)
            sides[-1].sessions = sessions_of_children() - known
            sides[-1].pause()
        yield sides


@contextmanager
def _service(served: ServedModel, log_dir: Path) -> Iterator[str]:
    from bench.running import running_service  # it alone needs Redis' client

    os.environ.update({"INFILL_DEVICE": served.device, "INFILL_DTYPE": served.dtype})
    if text := served.catalog():
        catalog = (served.folder or log_dir).with_suffix(".toml")
        catalog.write_text(text)
        os.environ["INFILL_CATALOG"] = str(catalog.resolve())
    with running_service() as url:
        yield url


@contextmanager
def _other_checkout(folder: Path, log_dir: Path) -> Iterator[str]:
    """``infill up`` with the code of ``folder`` and the packages of this environment."""
    port, log, data = ports.reserve_any("127.0.0.1"), log_dir / "before.log", (log_dir / "before").resolve()
    port.release()
    variables = {"PYTHONPATH": str(folder), "INFILL_PORT": str(port.number), "INFILL_VAR_DIR": str(data)}
    command = ["env", f"--chdir={folder}", sys.executable, "-m", "launch", "up"]
    process = Process(command, variables, log, signal.SIGTERM)
    url = f"http://127.0.0.1:{port.number}"
    try:
        _wait_until_ready(url, process, log, ("/readyz",))
        yield url
    finally:
        process.end(STOP_OF_A_STACK_S)


@contextmanager
def _baseline(module: str, options: list[str], log_dir: Path) -> Iterator[tuple[str, Process]]:
    port = ports.reserve_any("127.0.0.1")
    log = log_dir / f"{module}.log"
    command = [sys.executable, "-m", f"bench.baselines.{module}", "--port", str(port.number), *options]
    process = Process(command, {}, log)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port.number}", process, log)
        yield f"http://127.0.0.1:{port.number}", process
    finally:
        _end_all(process)
        port.release()


def _wait_until_ready(url: str, process: Process, log: Path, paths: Sequence[str] = ("/healthz", "/health")) -> None:
    """LitServe calls it /health, and answers 503 until its worker has loaded the model."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.alive:
        with suppress(httpx.HTTPError):
            if any(httpx.get(url + path, timeout=5, trust_env=False).is_success for path in paths):
                return
        time.sleep(0.2)
    raise LaunchError(f"The server at {url} {process.ending}, not ready:\n{tail(log)}")


def _end_all(process: Process) -> None:
    """The process and, as LitServe's workers outlive it, everything in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
    process.end(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
