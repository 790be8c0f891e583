"""The app: ``python -m app``, or ``uvicorn app.main:create_app --factory`` with uvicorn's own host and port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app import problems
from app.bodies import BodyLimits
from app.examples import ANYWHERE
from app.middleware import RequestContext
from app.routes import health, inpaint, jobs, loras, metrics, models, page, schedulers, workers
from app.routes import problems as problem_kinds
from app.service import Service, make_service
from app.settings import ApiSettings
from jobs.logs import configure_logs
from jobs.sandbox.pool import Sandbox

DESCRIPTION = """\
Upload a photo and a mask; get the photo back with only the masked part repainted.

Every pixel where the effective mask is 0 is equal to the decoded input. Errors are `application/problem+json`
(RFC 9457) with a stable `code`.
"""


def create_app(settings: ApiSettings | None = None, sandbox: Sandbox | None = None) -> FastAPI:
    """An app that connects to Redis at its first need. Without settings, they are read and the logs are set up.

    ``sandbox``: running decoders to use (``app/decoding.py``); without them, the app starts its own and ends them.

    Raises BadModel for a catalog that cannot be used.
    """
    if settings is None:
        settings = ApiSettings()
        configure_logs(settings.log_level)
    service = make_service(settings, sandbox)
    app = FastAPIOffline(
        title="Infill",
        version="1",
        description=DESCRIPTION,
        lifespan=_lifespan,
        responses=ANYWHERE,
        redirect_slashes=False,  # the Location would be made of the Host header
    )
    app.state.service = service
    app.add_middleware(BodyLimits, bodies=service.bodies)
    app.add_middleware(RequestContext, metrics=service.metrics)
    if settings.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.proxies)
    problems.install(app)
    app.include_router(inpaint.make_router(settings.max_body_bytes))
    for noun in (jobs, models, loras, schedulers, workers, health, metrics, problem_kinds, page):
        app.include_router(noun.router)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    service.decoders.start()
    listening = asyncio.create_task(service.changes.run())
    try:
        yield
    finally:
        await service.changes.stop(listening)
        service.queue.connection.close()
        service.decoders.close()
