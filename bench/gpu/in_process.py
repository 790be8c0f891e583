"""Side a without Redis and HTTP: engine and session on a thread of this process, fed as a worker feeds them."""

import asyncio
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import httpx

from bench.served_model import ServedModel
from bench.throughput.sides import AS_THE_PIPELINE, Side
from bench.throughput.workload import Case
from jobs.catalog import ModelEntry
from jobs.schema import InpaintParameters, JobReport
from jobs.speed import Speed
from worker.engine.engine import Engine
from worker.engine.profile import profile
from worker.engine.session import Session
from worker.engine.stopwatch import Stopwatch
from worker.engine.task import Task
from worker.models.loading import Loader
from worker.settings import WorkerSettings

IDLE_S = 0.1


@dataclass(frozen=True)
class Asked:
    task: Task
    case: Case
    answer: "asyncio.Future[bytes]"

    def resolve(self) -> None:
        """Hand the outcome to the caller's loop, on its own thread."""
        self.answer.get_loop().call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self.answer.cancelled():
            return
        if isinstance(self.task.outcome, JobReport):
            self.answer.set_result(self.task.images[0])
        else:
            self.answer.set_exception(httpx.RemoteProtocolError(f"the job failed: {self.task.outcome}"))


class InProcess(Side):
    """Admits up to the worker's seats at once, at step boundaries."""

    name, label = "a", "Infill's engine, in the process that asks"

    def __init__(self, served: ServedModel) -> None:
        super().__init__("")
        fair = {"encoding_budget_bytes": 0}  # the same few photos come again and again; the others keep nothing
        settings = WorkerSettings.model_validate({"device": served.device, "dtype": served.dtype, **fair})
        self.served, self.entry = served, ModelEntry.model_validate(served.entry())
        loader = Loader(settings)
        family = loader.load(served.name, self.entry)
        self._seats = settings.seats
        speeds: dict[str, Sequence[Speed]] = {served.name: profile(family, self.entry, 2 * settings.max_rows)}
        engine = Engine({served.name: family}, settings.max_rows, speeds=speeds, device=loader.device)
        self._session = Session(engine, settings.codec_threads)
        self._arrived: queue.Queue[Asked] = queue.Queue()
        self._asked: list[Asked] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine")

    async def ask(self, client: httpx.AsyncClient, case: Case) -> bytes:
        task = Task("bench", self._parameters(case), self.entry, Stopwatch(0.0))
        asked = Asked(task, case, asyncio.get_running_loop().create_future())
        self._arrived.put(asked)
        return await asked.answer

    def _parameters(self, case: Case) -> InpaintParameters:
        fields = {
            "prompt": case.prompt,
            "seed": case.seed,
            "num_inference_steps": case.steps,
            "model": self.served.name,
            "guidance_scale": self.served.guidance_scale,
            "scheduler": self.served.scheduler,
            **AS_THE_PIPELINE,
        }
        return InpaintParameters.model_validate(fields | {"strength": 1.0})

    def _run(self) -> None:
        while not self._ending.is_set():
            self._admit()
            if self._asked:
                self._session.turn()
            for asked in [asked for asked in self._asked if asked.task.outcome is not None]:
                self._asked.remove(asked)
                asked.resolve()

    def _admit(self) -> None:
        while len(self._asked) < self._seats:
            try:
                asked = self._arrived.get(timeout=None if self._asked else IDLE_S, block=not self._asked)
            except queue.Empty:
                return
            self._asked.append(asked)
            self._session.take(asked.task, {"image": asked.case.image, "mask": asked.case.mask})

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        self._thread.join()
        self._session.shutdown()


@contextmanager
def running_engine(served: ServedModel) -> Iterator[list[Side]]:
    side = InProcess(served)
    side.start()
    try:
        yield [cast(Side, side)]
    finally:
        side.end()
