"""Every route of the API, for tests that look at all of them."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from app.main import create_app
from app.settings import ApiSettings


@cache
def routes() -> list[str]:
    """``GET /v1/models``, ...: every route of the app, those left out of its description included."""
    found = []
    for context in cast("Iterator[Any]", iter_route_contexts(create_app(ApiSettings()).routes)):
        route = context.original_route
        if isinstance(route, Mount):
            assert isinstance(route.app, StaticFiles), f"{route.path}: what lies below is not looked at"
            continue
        found += [f"{method} {context.path}" for method in sorted(route.methods - {"HEAD"})]
    return found


def address(route: str, job_id: str) -> str:
    """With the job's id wherever one can stand; lists are asked for what stands behind a place before all jobs."""
    values = {"job_id": job_id, "batch_id": f"batch_{job_id}", "index": "0", "model": "pocket", "name": "main.js"}
    values |= {"code": "job_not_found", "file_id": f"file-{job_id}"}
    method, path = route.split()
    filled = re.sub(r"{(\w+)}", lambda name: values[name[1]], path)
    query = f"?cursor=99999999999999999-{job_id}&id_task={job_id}&task_id={job_id}"
    return filled + (query if method == "GET" and filled == path else "")
