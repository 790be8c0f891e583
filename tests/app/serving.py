"""The API in this process, its lifespan included."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

import httpx

from app.decoding import sandbox_for
from app.main import create_app
from app.settings import ApiSettings
from jobs.sandbox.pool import Sandbox


@cache
def shared_sandbox() -> Sandbox:
    """Decoders for all apps of this process: starting their own would take each of them a second."""
    return sandbox_for(ApiSettings())


@asynccontextmanager
async def serve(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app in this process, its lifespan included."""
    app = create_app(settings, shared_sandbox())
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=20) as client:
            yield client
