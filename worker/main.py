"""Starts one worker process: ``python -m worker``."""

import logging
import signal
import uuid
from functools import partial

import torch
from prometheus_client import start_http_server
from rq.serializers import JSONSerializer

from jobs.catalog import load_catalog
from jobs.connection import connect_worker
from jobs.logs import configure_logs
from jobs.loras import LoraFolder
from jobs.store import Store
from worker.adapters import Adapters
from worker.compiling import Compiler
from worker.decoding import Decoders
from worker.desk import Desk
from worker.engine import Engine
from worker.inpaint_queue import InpaintQueue
from worker.loading import Loader
from worker.models import Models
from worker.profile import profile
from worker.rq_worker import BatchWorker
from worker.session import Session
from worker.settings import WorkerSettings

log = logging.getLogger("worker")


def main() -> int:
    """Run until asked to stop. Returns the exit code: 0 after a stop that was asked for, else 1."""
    configure_logs()
    settings = WorkerSettings()
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    worker = build_worker(settings)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.metrics_host, registry=worker.desk.metrics.registry)
    worker.work(logging_level=None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another one has nothing left to say, and would change the status
    worker.session.shutdown()
    return 0 if worker.stop_was_asked_for else 1


def build_worker(settings: WorkerSettings) -> BatchWorker:
    """Load the models and put a worker together, ready for ``work()``."""
    catalog = load_catalog(settings.catalog)
    measure = partial(profile, max_rows=2 * settings.max_rows)  # with guidance an image is two rows of the network
    compiler = Compiler(settings, measure) if settings.compile else None
    models = Models(catalog.models, Loader(settings).read, settings.model_budget_bytes, compiler or measure)
    models.load_first()
    if compiler:
        compiler.serve()
    connection = connect_worker(settings.redis_url)
    name = settings.worker_name or uuid.uuid4().hex
    adapters = Adapters(LoraFolder(settings.lora_dir), settings.lora_budget_bytes)
    engine = Engine(models, settings.max_rows, adapters, models.paces)
    session = Session(engine, settings.codec_threads, models.ready, Decoders(settings.codec_threads))
    desk = Desk(name, Store(connection, settings), catalog, session, settings)
    queue = InpaintQueue(settings.queue_name, connection=connection, serializer=JSONSerializer)
    worker = BatchWorker(
        [queue],
        name=name,
        connection=connection,
        serializer=JSONSerializer,
        desk=desk,
        worker_ttl=30,
        maintenance_interval=settings.maintenance_s,
        log_job_description=False,
    )
    models.on_load = lambda begins: worker.pulse.moved(settings.load_limit_s if begins else None)
    return worker
