"""The app: ``python -m app``, or ``uvicorn app.main:create_app --factory`` with uvicorn's own host and port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app import openapi, problems
from app.backend import Backend, make_backend
from app.batch_feeder import BatchFeeder
from app.bodies import BodyLimits
from app.dialects.a1111 import routes as a1111
from app.dialects.openai import batch_routes as openai_batches
from app.dialects.openai import routes as openai
from app.examples import ANYWHERE
from app.middleware import RequestContext, RootPath
from app.routes import (
    batches,
    capabilities,
    documents,
    health,
    inpaint,
    job_list,
    jobs,
    loras,
    masks,
    metrics,
    models,
    page,
    schedulers,
    workers,
)
from app.routes import problems as problem_kinds
from app.settings import ApiSettings
from jobs.logs import configure_logs
from jobs.sandbox.pool import Sandbox

DESCRIPTION = """\
Upload a photo and a mask; get the photo back with only the masked part repainted.

Every pixel where the effective mask is 0 is equal to the decoded input. Errors are `application/problem+json`
(RFC 9457) with a stable `code`.
"""

CORS: dict[str, Any] = {
    "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
    "allow_headers": ["*"],  # clients send their own, such as x-stainless-lang
    "expose_headers": [
        *("Location", "Content-Location", "Retry-After", "ETag", "Server-Timing", "X-Request-ID", "Preference-Applied"),
        *("Idempotency-Replayed", "Content-Disposition"),
        *("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"),
        *("Infill-Approximate", "Infill-Changed-Outside-Mask", "Infill-Coverage", "Infill-Extend", "Infill-Ignored"),
        *("Infill-Job", "Infill-Mask-Box", "Infill-Mask-Mode", "Infill-Mask-Score", "Infill-Model", "Infill-Region"),
        *("Infill-Resized", "Infill-Seed"),
    ],
}
"""What pages of the allowed origins may send and read. No cookies are used, so no credentials are allowed."""

NOUNS = (
    *(jobs, job_list, capabilities, models, loras, schedulers, workers, health, metrics),
    *(problem_kinds, documents, page),
)
"""Routes that need no setting."""


def create_app(settings: ApiSettings | None = None, sandbox: Sandbox | None = None) -> FastAPI:
    """An app that connects to Redis at its first need. Without settings, they are read and the logs are set up.

    ``sandbox``: running decoders to use (``app/decoding.py``); without them, the app starts its own and ends them.

    Raises BadModel for a catalog that cannot be used.
    """
    if settings is None:
        settings = ApiSettings()
        configure_logs(settings.log_level, settings.log_format)
    backend = make_backend(settings, sandbox)
    app = FastAPIOffline(
        redoc_url=None,  # app/routes/page.py has it
        title="Infill",
        version="1",
        description=DESCRIPTION,
        lifespan=_lifespan,
        responses=ANYWHERE,
        redirect_slashes=False,  # the Location would be made of the Host header
    )
    app.state.backend = backend
    app.add_middleware(BodyLimits, bodies=backend.bodies)
    app.add_middleware(RequestContext, metrics=backend.metrics)
    if settings.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.proxies)
    if settings.origins:
        app.add_middleware(CORSMiddleware, allow_origins=settings.origins, **CORS)
    if settings.root_path:
        app.add_middleware(RootPath, root_path=settings.root_path)
    problems.install(app)
    openapi.install(app)
    app.include_router(inpaint.make_router(settings.max_body_bytes))
    app.include_router(masks.make_router(settings.max_body_bytes))
    app.include_router(openai_batches.make_router(settings.max_batch_body_bytes))  # before ours, whose paths it shares
    app.include_router(batches.make_router(settings.max_batch_body_bytes))
    for dialect in (openai, a1111):
        app.include_router(dialect.make_router(settings.max_body_bytes))
    for noun in NOUNS:
        app.include_router(noun.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    backend: Backend = app.state.backend
    backend.decoders.start()
    listening = asyncio.create_task(backend.changes.run())
    feeder = app.state.feeder = BatchFeeder(backend)
    feeding = asyncio.create_task(feeder.run())
    try:
        yield
    finally:
        await feeder.stop(feeding)
        await backend.changes.stop(listening)
        backend.queue.connection.close()
        backend.decoders.close()
