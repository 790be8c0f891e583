"""A queue, and the one worker that takes its jobs, in this thread."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer

from jobs.catalog import ModelEntry, load_catalog
from jobs.queue import JobQueue
from jobs.schema import InputName, JobProblem, JobReport
from jobs.speed import Speed
from jobs.store import Store
from tests.factories import inpaint_parameters, mask_report
from tests.worker import tiny
from tests.worker.slow_device import Device
from tests.worker.tasks import uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.families.base import Family
from worker.models.models import Models
from worker.pixels.decoding import Decode, decode_here
from worker.pixels.signing import Sign
from worker.queue.inpaint_queue import InpaintQueue
from worker.queue.reporter import Reporter
from worker.queue.rq_worker import BatchWorker
from worker.settings import WorkerSettings

Measure = Callable[[Family, ModelEntry], list[Speed]]
DEADLINE_S = 4
MASK = mask_report(coverage=0.1, bbox=(30, 20, 60, 50))
ENTRY = """
[models.{name}]
family = "sd"
source = "./{name}"
num_inference_steps = 4
guidance_scale = 1.0
strength = 1.0
scheduler = "ddim"
size_px = 64
max_size_px = 64
"""


@dataclass
class Read:
    """A model in main memory."""

    family: Family
    size_bytes: int = 100

    def place(self) -> Family:
        return self.family


class Office:
    """A queue, and the one worker that takes its jobs, in this thread. ``load`` is called with a model's name."""

    def __init__(
        self,
        connection: Redis,
        folder: Path,
        load: Callable[[str], Family],
        measure: Measure | None = None,
        decode: Decode = decode_here,
        sign: Sign | None = None,
        **changed: Any,
    ) -> None:
        catalog = folder / "catalog.toml"
        catalog.write_text("".join(ENTRY.format(name=name) for name in "ab"))
        changed = {"job_deadline_s": DEADLINE_S, "lease_s": 30, "catalog": str(catalog), "codec_threads": 1, **changed}
        settings = WorkerSettings.model_validate(changed)
        models = load_catalog(str(catalog)).models
        self.models = Models(models, partial(self._read, load), measure=measure)
        self.queue = JobQueue(connection, settings)
        self.session = Session(Engine(self.models, 8, speeds=self.models.speeds), 1, self.models.ready, decode, sign)
        reporter = Reporter("w", Store(connection, settings), load_catalog(str(catalog)), self.session, settings)
        queue = InpaintQueue(settings.queue_name, connection=connection, serializer=JSONSerializer)
        self.worker = BatchWorker(
            [queue], name="w", connection=connection, serializer=JSONSerializer, reporter=reporter
        )

    @staticmethod
    def _read(load: Callable[[str], Family], name: str, _: ModelEntry) -> Read:
        return Read(load(name))

    def submit(self, model: str, steps: int = 4, inputs: dict[InputName, bytes] | None = None) -> str:
        asked = inpaint_parameters(model=model, num_inference_steps=steps)
        return self.queue.submit(asked, MASK, inputs or uploads()).job_id

    def run(self) -> None:
        """Take jobs until none is left."""
        queue = self.worker._queue()
        while job := queue.pop(None):
            self.worker.execute_job(job, queue)
        self.session.shutdown()

    def report(self, job_id: str) -> JobReport:
        job = self.queue.job(job_id)
        assert job.get_status() == RqStatus.FINISHED, job.latest_result()
        return JobReport.model_validate(job.return_value())

    def problem(self, job_id: str) -> JobProblem:
        """Why a job failed, as its caller reads it."""
        result = self.queue.job(job_id).latest_result()
        assert result is not None and result.exc_string
        return JobProblem.model_validate_json(result.exc_string)


def named(name: str, pass_s: float = 0.0) -> Family:
    """A model whose passes take at least ``pass_s``."""
    family = tiny.FAMILIES["sd"].family(name, tiny.pipeline("sd", "concat", "ddim"))
    family.network = Device(family.network, pass_s, 0.0)
    return family
