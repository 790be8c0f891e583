"""What the routes work with, made once for an app and handed to them as a dependency."""

from dataclasses import dataclass
from typing import Annotated, cast

import anyio
from fastapi import Depends, Request

from app.bodies import Bodies
from app.changes import Changes
from app.decoding import Decoders
from app.feeds import Feeds
from app.metrics import Metrics
from app.settings import ApiSettings
from app.view import JobView, view_job
from jobs.catalog import Catalog, load_catalog
from jobs.connection import connect_api
from jobs.loras import LoraFolder
from jobs.queue import JobQueue
from jobs.sandbox.pool import Sandbox


@dataclass(frozen=True)
class Service:
    settings: ApiSettings
    catalog: Catalog
    loras: LoraFolder
    queue: JobQueue
    changes: Changes
    feeds: Feeds
    metrics: Metrics
    bodies: Bodies
    decoders: Decoders


def make_service(settings: ApiSettings, sandbox: Sandbox | None = None) -> Service:
    """Connect and start nothing yet. Raises BadModel for a catalog that cannot be used."""
    catalog = load_catalog(settings.catalog)
    queue = JobQueue(connect_api(settings.redis_url), settings)
    changes, bodies, metrics = Changes(settings.redis_url), Bodies(settings), Metrics(queue, catalog)
    metrics.upload_bytes.set_function(lambda: bodies.shares.taken)

    async def look(job_id: str) -> JobView:
        return await anyio.to_thread.run_sync(view_job, queue, job_id)

    return Service(
        settings=settings,
        catalog=catalog,
        loras=LoraFolder(settings.lora_dir),
        queue=queue,
        changes=changes,
        feeds=Feeds(look, changes, settings.poll_s),
        metrics=metrics,
        bodies=bodies,
        decoders=Decoders(settings, sandbox),
    )


async def service_of(request: Request) -> Service:
    """Asynchronous, because FastAPI sends plain functions through a thread."""
    return cast(Service, request.app.state.service)


ServiceDep = Annotated[Service, Depends(service_of)]
