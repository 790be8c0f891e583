"""What the routes work with, made once for an app and handed to them as a dependency."""

from dataclasses import dataclass
from typing import Annotated, cast

import anyio
from fastapi import Depends, Request

from app.authentication import Authentication
from app.bodies import Bodies
from app.decoding import Decoders
from app.feeds import Feeds
from app.metrics import Metrics
from app.notifications import Changes
from app.outgoing import Fetches
from app.rate_limit import RateLimit
from app.selections import SelectionPlaces
from app.settings import ApiSettings
from jobs.api_keys import ApiKeys
from jobs.batches import Batches
from jobs.catalog import Catalog, load_catalog
from jobs.connection import connect_api
from jobs.job_view import JobView, view_job
from jobs.loras import LoraFolder
from jobs.queue import JobQueue
from jobs.sandbox.pool import Sandbox
from jobs.uploaded_files import UploadedFiles


@dataclass(frozen=True)
class Backend:
    settings: ApiSettings
    catalog: Catalog
    loras: LoraFolder
    queue: JobQueue
    batches: Batches
    files: UploadedFiles
    batch_checks: anyio.CapacityLimiter
    """Threads that check batches: it takes seconds, and no other call is to wait for a thread meanwhile."""
    changes: Changes
    feeds: Feeds
    metrics: Metrics
    bodies: Bodies
    decoders: Decoders
    selections: SelectionPlaces
    fetches: Fetches
    authentication: Authentication
    rate_limit: RateLimit


def make_backend(settings: ApiSettings, sandbox: Sandbox | None = None) -> Backend:
    """Connect and start nothing yet. Raises BadModel for a catalog that cannot be used."""
    catalog = load_catalog(settings.catalog)
    queue = JobQueue(connect_api(settings.redis), settings)
    changes, bodies, metrics = Changes(settings.redis), Bodies(settings), Metrics(queue, catalog)
    metrics.upload_bytes.set_function(lambda: bodies.shares.taken)

    async def look(job_id: str) -> JobView:
        return await anyio.to_thread.run_sync(view_job, queue, job_id)

    return Backend(
        settings=settings,
        catalog=catalog,
        loras=LoraFolder(settings.lora_dir),
        queue=queue,
        batches=Batches(queue.store, settings.batch_ttl_s, settings.caller_batches),
        files=UploadedFiles(queue.store, settings.input_ttl_s, settings.caller_batches),
        batch_checks=anyio.CapacityLimiter(1),
        changes=changes,
        feeds=Feeds(look, changes, settings.poll_s),
        metrics=metrics,
        bodies=bodies,
        decoders=Decoders(settings, sandbox),
        selections=SelectionPlaces(settings.decode_threads, settings.decode_wait_s),
        fetches=Fetches(settings),
        authentication=Authentication(
            ApiKeys(queue.connection) if settings.asks_for_keys else None, settings.auth, settings.origins
        ),
        rate_limit=RateLimit(queue.connection, settings.calls_per_minute),
    )


async def backend_of(request: Request) -> Backend:
    """Asynchronous, because FastAPI sends plain functions through a thread."""
    return cast(Backend, request.app.state.backend)


BackendDep = Annotated[Backend, Depends(backend_of)]
