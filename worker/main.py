"""Starts one worker process: ``python -m worker``."""

import logging
import os
import signal
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial

import torch
from prometheus_client import start_http_server
from rq.serializers import JSONSerializer

from jobs.catalog import load_catalog
from jobs.connection import connect_api, connect_worker
from jobs.errors import BadCredentials, BadModel
from jobs.loras import LoraFolder
from jobs.queue import JobQueue
from jobs.store import Store
from worker.denoise.device import LOST_EXIT, DeviceLost
from worker.engine.compiling import Compiler
from worker.engine.engine import Engine
from worker.engine.profile import profile
from worker.engine.session import Session
from worker.models.adapters import Adapters
from worker.models.loading import Loader
from worker.models.models import Entry, Models
from worker.pixels.credentials import credentials_of
from worker.pixels.decoding import Decoders
from worker.pixels.signing import Signers
from worker.queue.deliverer import Deliverer
from worker.queue.inpaint_queue import InpaintQueue
from worker.queue.reporter import Reporter
from worker.queue.rq_worker import BatchWorker
from worker.settings import WorkerSettings

log = logging.getLogger("worker")

EXPIRES_SOON = timedelta(days=30)


def main(settings: WorkerSettings) -> int:
    """Run until asked to stop. Returns the exit code: 0 after a stop that was asked for, else 1.

    A device that is dead ends the process at once, with ``LOST_EXIT``: what frees its memory at the end could hang.
    """
    try:
        return serve(settings)
    except (BadModel, BadCredentials) as error:
        log.error("%s", error)
        return 1
    except DeviceLost as lost:
        log.error("the device is lost: ending, so that the jobs are reclaimed: %s", lost.__cause__)
        logging.shutdown()
        os._exit(LOST_EXIT)


def serve(settings: WorkerSettings) -> int:
    """Load the models and take jobs. Returns the exit code. Raises DeviceLost."""
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    worker = build_worker(settings)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.metrics_host, registry=worker.reporter.metrics.registry)
    deliverer = Deliverer(JobQueue(connect_api(settings.redis), settings), worker.reporter.metrics)
    deliverer.start()
    worker.work(logging_level=None)
    deliverer.stop()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # another one has nothing left to say, and would change the status
    worker.session.shutdown()
    return 0 if worker.stop_was_asked_for else 1


def signers_of(settings: WorkerSettings) -> Signers | None:
    """None where results are not signed. Raises BadCredentials."""
    credentials = credentials_of(settings)
    if credentials is None:
        return None
    signers = Signers(credentials, settings.codec_threads)
    signers.check()
    level = logging.WARNING if credentials.until - datetime.now(UTC) < EXPIRES_SOON else logging.INFO
    log.log(level, "results are signed; the certificates expire at %s", credentials.until)
    return signers


def build_worker(settings: WorkerSettings) -> BatchWorker:
    """Load the models and put a worker together, ready for ``work()``. Raises BadModel, BadCredentials."""
    signers = signers_of(settings)
    catalog = load_catalog(settings.catalog)
    measure = partial(profile, max_rows=2 * settings.max_rows)  # with guidance an image is two rows of the network
    compiler = Compiler(settings, measure) if settings.compile else None
    loader = Loader(settings)
    entries: dict[str, Entry] = {**catalog.models, **catalog.segmenters}
    models = Models(entries, loader.read, settings.model_budget_bytes, compiler or measure)
    models.load_first()
    if compiler:
        compiler.serve()
    connection = connect_worker(settings.redis)
    name = settings.worker_name or uuid.uuid4().hex
    adapters = Adapters(LoraFolder(settings.lora_dir), settings.lora_budget_bytes)
    engine = Engine(models, settings.max_rows, adapters, models.speeds, loader.device)
    decode = Decoders(settings.codec_threads)
    session = Session(engine, settings.codec_threads, models.ready, decode, signers, models.segmenters)
    reporter = Reporter(name, Store(connection, settings), catalog, session, settings)
    queue = InpaintQueue(settings.queue_name, connection=connection, serializer=JSONSerializer)
    worker = BatchWorker(
        [queue],
        name=name,
        connection=connection,
        serializer=JSONSerializer,
        reporter=reporter,
        worker_ttl=30,
        maintenance_interval=settings.maintenance_s,
        log_job_description=False,
    )
    models.on_load = lambda begins: worker.pulse.moved(settings.load_limit_s if begins else None)
    return worker
