"""What counts against a job's deadline, and what does not: real Redis, real networks, loads that really take long."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer

from jobs.catalog import ModelEntry, load_catalog
from jobs.connection import connect_worker
from jobs.pace import Pace
from jobs.queue import JobQueue
from jobs.schema import InpaintParameters, JobProblem, JobReport, MaskReport
from jobs.store import Store
from tests.redis_server import RedisServer
from tests.worker import tiny
from tests.worker.test_profile import Device
from tests.worker.test_promises import uploads
from worker.desk import Desk
from worker.engine import Engine
from worker.families.base import Family
from worker.inpaint_queue import InpaintQueue
from worker.models import Models
from worker.rq_worker import BatchWorker
from worker.session import Session
from worker.settings import WorkerSettings
from worker.stopwatch import PHASES, Stopwatch

Measure = Callable[[Family, ModelEntry], list[Pace]]

DEADLINE_S = 4
LOAD_S = 2.5
MASK = MaskReport(mode="white", coverage=0.1, bbox=(30, 20, 60, 50), soft=False)
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
        **changed: Any,
    ) -> None:
        catalog = folder / "catalog.toml"
        catalog.write_text("".join(ENTRY.format(name=name) for name in "ab"))
        told = {"job_deadline_s": DEADLINE_S, "lease_s": 30, "catalog": str(catalog), "codec_threads": 1, **changed}
        settings = WorkerSettings.model_validate(told)
        models = load_catalog(str(catalog)).models
        self.models = Models(models, partial(self._read, load), measure=measure)
        self.queue = JobQueue(connection, settings)
        self.session = Session(Engine(self.models, 8, paces=self.models.paces), 1, self.models.ready)
        desk = Desk("w", Store(connection, settings), load_catalog(str(catalog)), self.session, settings)
        queue = InpaintQueue(settings.queue_name, connection=connection, serializer=JSONSerializer)
        self.worker = BatchWorker([queue], name="w", connection=connection, serializer=JSONSerializer, desk=desk)

    @staticmethod
    def _read(load: Callable[[str], Family], name: str, _: ModelEntry) -> Read:
        return Read(load(name))

    def submit(self, model: str, steps: int = 4) -> str:
        asked = {
            "model": model, "seed": 1, "num_inference_steps": steps, "guidance_scale": 1, "strength": 1,
            "scheduler": "ddim", "masked_content": "original",
        }  # fmt: skip
        return self.queue.submit(InpaintParameters.model_validate(asked), MASK, *uploads()).job_id

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


def named(name: str, pass_s: float = 0.0) -> Family:
    """A model whose passes take at least ``pass_s``."""
    family = tiny.FAMILIES["sd"].family(name, tiny.pipeline("sd", "concat", "ddim"))
    family.network = Device(family.network, pass_s, 0.0)
    return family


def test_a_load_that_outlasts_the_deadline_fails_neither_the_job_that_waits_for_it_nor_one_that_runs(
    connection: Redis, tmp_path: Path
) -> None:
    def load(name: str) -> Family:
        if name == "b":
            time.sleep(LOAD_S)
        return named(name)

    office = Office(connection, tmp_path, load)
    office.models.load_first()
    running, waiting = office.submit("a", steps=50), office.submit("b")
    office.run()
    for job_id in (running, waiting):
        spent = office.report(job_id).timings.model_dump()
        assert spent["load"] >= 1000 * LOAD_S
        assert sum(spent[phase] for phase in PHASES) == pytest.approx(spent["total"], abs=0.1)


def test_a_measurement_that_outlasts_the_deadline_fails_no_job(connection: Redis, tmp_path: Path) -> None:
    def measure(*_: object) -> list[Pace]:
        time.sleep(LOAD_S)
        return []

    office = Office(connection, tmp_path, named, measure)
    job_id = office.submit("b")
    office.run()
    assert office.report(job_id).timings.load >= 1000 * LOAD_S


def test_a_job_that_itself_runs_longer_than_its_deadline_fails_and_is_not_tried_again(
    connection: Redis, tmp_path: Path
) -> None:
    office = Office(connection, tmp_path, partial(named, pass_s=0.2))
    long, short = office.submit("a", steps=200), office.submit("a", steps=2)
    office.run()
    job = office.queue.job(long)
    problem = JobProblem.model_validate_json(job.latest_result().exc_string)  # type: ignore[union-attr]
    assert (job.get_status(), job.retries_left, problem.code) == (RqStatus.FAILED, 0, "deadline_exceeded")
    assert office.report(short)


def test_while_a_model_is_loaded_its_job_is_loading_and_nobody_has_an_eta(connection: Redis, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def load(name: str) -> Family:
        """Looks at what others see while the engine's thread is busy here."""
        store = office.queue.store
        seen[name] = [store.progress(job_id) for job_id in (running, waiting)], store.paces(["w"])
        office.worker.beat()
        seen[name, "beat"] = store.paces(["w"])
        return named(name)

    office = Office(connection, tmp_path, load)
    running, waiting = office.submit("a", steps=50), office.submit("b")
    office.run()
    (runs, waits), paces = seen["b"]
    assert runs["loading"] == 0 and runs["step"] > 0 and waits["loading"] == 1
    assert not {"eta_ms"} & {*runs, *waits}
    assert paces["w"].loading == seen["b", "beat"]["w"].loading == ["b"]
    assert [office.queue.store.progress(job_id)["loading"] for job_id in (running, waiting)] == [0, 0]
    office.worker.beat()
    assert office.queue.store.paces(["w"])["w"].loading == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", append_only=True) as made:
        yield made


@pytest.mark.parametrize("connect", [connect_worker, partial(Redis.from_url, socket_timeout=1)])
def test_time_without_redis_does_not_count(
    server: RedisServer, tmp_path: Path, connect: Callable[[str], Redis]
) -> None:
    """With a client that rides out the outage, and with one that raises at once."""
    office = Office(connect(server.url), tmp_path, partial(named, pass_s=0.02))
    job_id = office.submit("a", steps=40)
    with ThreadPoolExecutor() as threads:  # the server lives as long as the thread that starts it, so that is this one
        running = threads.submit(office.run)
        while not any(task.step for task in office.session.tasks):
            assert not running.done(), running.result()
            time.sleep(0.01)
        server.kill()
        time.sleep(DEADLINE_S + 0.5)
        server.start()
        running.result()
    assert office.report(job_id).timings.wait > 1000 * DEADLINE_S


# ---- the account


def test_a_hold_up_is_no_time_of_a_job_that_stood_ready_and_its_steps_do_not_look_longer() -> None:
    began = time.perf_counter()
    stopwatch = Stopwatch(queued_s=100)
    stopwatch.enter("denoise")
    stopwatch.stepped(1, 1)
    time.sleep(0.3)
    stopwatch.held_up(0.2, "load")
    stopwatch.held_up(0.1, "redis")
    stopwatch.stepped(1, 2)
    own_s = time.perf_counter() - began - 0.3
    assert stopwatch.step_s() <= own_s
    before_s, spent, after_s = stopwatch.own_s, stopwatch.timings(2), stopwatch.own_s
    assert before_s <= spent.total / 1000 - 100 - 0.3 <= after_s + 1e-5
    assert spent.load == pytest.approx(200) and spent.wait >= 100


def test_what_a_codec_thread_does_meanwhile_counts_and_a_hold_up_begins_when_it_is_done() -> None:
    busy, done = Stopwatch(0.0), Stopwatch(0.0)
    busy.enter("decode")
    done.enter("decode")
    time.sleep(0.2)
    ready = time.perf_counter()
    done.enter("wait")
    time.sleep(0.1)
    for stopwatch in (busy, done):
        stopwatch.held_up(0.3, "load")
    assert busy.timings(1).load == 0 and busy.own_s >= 0.3
    assert 100 <= done.timings(1).load <= 1000 * (time.perf_counter() - ready)


@pytest.mark.parametrize("phase", ["queue", "fetch", "load", "store"])
def test_waiting_for_a_worker_a_model_or_redis_is_no_time_of_the_job(phase: str) -> None:
    began = time.perf_counter()
    stopwatch = Stopwatch(0.0)
    stopwatch.enter(phase)
    time.sleep(0.2)
    assert stopwatch.own_s <= time.perf_counter() - began - 0.2
    stopwatch.enter("decode")
    assert stopwatch.own_s <= time.perf_counter() - began - 0.2
