"""OpenAI's batches and files, as far as image edits need them, on our own batches: their lines, views and errors.

``POST /v1/batches`` shares its address with ours and is told apart by its JSON. Ids of these batches have a prefix of
their own, so the other addresses tell themselves apart.
"""

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, cast
from uuid import uuid4

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.routing import Match
from starlette.types import Scope

from app.authentication import Principal, needs, principal_of
from app.backend import Backend, BackendDep
from app.content_types import JSON
from app.dialects.openai.batch_edits import ENDPOINT, error_line, output_line, translated
from app.dialects.openai.results import listed
from app.dialects.openai.routes import OpenAIRoute
from app.forms import LenientParser, check_query, read_form
from app.json_bodies import read_json
from app.outgoing import MEMORY_BYTES
from app.paging import check_listed, takes
from app.routes.batches import JSONL, Origin, make_batch, owned
from app.routes.inpaint import IdempotencyKey
from app.submission_route import RenderedRoute
from jobs.batches import Batch
from jobs.errors import InvalidField, NotStored, UnknownField
from jobs.uploaded_files import FileRecord, no_file

PREFIX = "batch_edits_"
BATCH_ID = re.compile(rf"{PREFIX}[0-9a-f]{{32}}")
FILE_ID = re.compile(r"file-[0-9a-f]{32}")
MADE_ID = re.compile(r"file-edits-([0-9a-f]{32})-(output|errors)")
"""Of a file that is written as it is read."""
MOST_METADATA, MOST_NAME, MOST_VALUE = 16, 64, 512
MOST_JSON_BYTES = 2**16
LINES_AT_ONCE = 100
STATUSES = {"canceling": "cancelling", "canceled": "cancelled"}
READ, SUBMIT = [needs("read")], [needs("submit")]

CallerDep = Annotated[Principal, Depends(principal_of)]


class PlainRoute(RenderedRoute):
    """Errors in OpenAI's shape."""

    render = staticmethod(OpenAIRoute.render)  # type: ignore[assignment]


class JsonRoute(PlainRoute):
    """Matches calls whose body is JSON; others go on to the next route of this address."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        kind = Request(scope).headers.get("content-type", "").partition(";")[0].strip().lower()
        return super().matches(scope) if kind == JSON else (Match.NONE, {})


def make_router(max_batch_body_bytes: int) -> APIRouter:
    """The body limit comes from the settings, hence a function."""
    router = APIRouter(route_class=PlainRoute, include_in_schema=False)
    add = router.add_api_route
    add("/v1/files", upload, methods=["POST"], max_body_size=max_batch_body_bytes, dependencies=SUBMIT)
    add("/v1/files", files, methods=["GET"], dependencies=[*READ, takes("purpose", "limit", "order")])
    add("/v1/files/{file_id}", look_at_file, methods=["GET"], dependencies=READ)
    add("/v1/files/{file_id}", delete, methods=["DELETE"], dependencies=SUBMIT)
    add("/v1/files/{file_id}/content", content, methods=["GET"], dependencies=READ)
    add(f"/v1/batches/{PREFIX}{{name}}", look, methods=["GET"], dependencies=READ)
    add(f"/v1/batches/{PREFIX}{{name}}/cancel", cancel, methods=["POST"], dependencies=SUBMIT)
    json_only: Any = {"max_body_size": MOST_JSON_BYTES, "route_class_override": JsonRoute}
    add("/v1/batches", create, methods=["POST"], dependencies=SUBMIT, **json_only)
    return router


# ---- files


def _owned_file(file_id: str, principal: CallerDep, backend: BackendDep) -> FileRecord:
    """The file, if the caller may have it. Raises UploadedFileNotFound, also for one that is written as it is read."""
    if not FILE_ID.fullmatch(file_id):
        raise no_file(file_id)
    record = backend.files.find(file_id)
    if principal.tenant is not None and record.owner != principal.name:
        raise no_file(file_id)
    return record


OwnedFile = Annotated[FileRecord, Depends(_owned_file)]


async def upload(request: Request, backend: BackendDep, principal: CallerDep) -> dict[str, Any]:
    """A file of lines, for a batch."""
    check_query(request)
    form = await read_form(request, LenientParser)
    try:
        if unknown := sorted(set(form) - {"file", "purpose"}):
            raise UnknownField(f"{unknown[0][:100]!r} is not taken here. Send file and purpose.")
        file = form.get("file")
        if len(form.multi_items()) != 2 or not isinstance(file, UploadFile) or not file.size:
            raise InvalidField("file, purpose: send one file that is not empty, and purpose=batch.")
        if form.get("purpose") != "batch":
            raise InvalidField("purpose: batch is the only one here.")
        return await anyio.to_thread.run_sync(_stored, backend, principal.name, file)
    finally:
        await form.close()


def _stored(backend: Backend, owner: str, file: UploadFile) -> dict[str, Any]:
    backend.queue.room.check(file.size or 0, "low")
    try:
        name = (file.filename or "")[:255]
        return _file_view(backend.files.put(f"file-{uuid4().hex}", owner, name, file.file))
    except NotStored:
        raise backend.queue.room.full() from None


def files(principal: CallerDep, backend: BackendDep) -> dict[str, Any]:
    """The files of your tenant that have not expired: so few that they are one page."""
    check_listed(principal)
    views = [_file_view(record) for record in backend.files.of(principal.name)]
    return {"object": "list", "data": views, "has_more": False}


def look_at_file(file: OwnedFile) -> dict[str, Any]:
    """What is known of a file."""
    return _file_view(file)


def delete(file: OwnedFile, backend: BackendDep) -> dict[str, Any]:
    """Forget a file. Batches that were made of it go on."""
    backend.files.drop(file)
    return {"id": file.id, "object": "file", "deleted": True}


async def content(file_id: str, principal: CallerDep, backend: BackendDep) -> Response:
    """The bytes of a file; of a batch's output or errors as they are by now, line by line."""
    if not (made := MADE_ID.fullmatch(file_id)):
        record = await anyio.to_thread.run_sync(_owned_file, file_id, principal, backend)
        return StreamingResponse(backend.files.read(record), media_type=JSONL)
    batch = await anyio.to_thread.run_sync(_owned_batch, made[1], principal, backend)
    return StreamingResponse(_rows(backend, batch, made[2] == "output"), media_type=JSONL)


async def _rows(backend: Backend, batch: Batch, succeeded: bool) -> AsyncIterator[str]:
    """Lines that have succeeded, or have ended otherwise; one at a time, for its images may be large."""
    for start in range(0, batch.record.total, LINES_AT_ONCE):
        stop = min(start + LINES_AT_ONCE, batch.record.total)
        for outcome in await anyio.to_thread.run_sync(backend.batches.outcomes, batch.id, start, stop):
            if (outcome.status == "succeeded") != succeeded:
                continue
            if succeeded:
                yield await anyio.to_thread.run_sync(output_line, backend, batch.id, outcome)
            else:
                yield error_line(batch.id, outcome)


def _file_view(record: FileRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size,
        "created_at": int(record.created_at),
        "expires_at": int(record.expires_at),
        "filename": record.filename,
        "purpose": "batch",
        "status": "processed",
    }


# ---- batches


def _owned_batch(name: str, principal: CallerDep, backend: BackendDep) -> Batch:
    """The batch, if the caller may have it. Raises BatchNotFound."""
    return owned(f"{PREFIX}{name}", BATCH_ID, principal, backend)


OwnedBatch = Annotated[Batch, Depends(_owned_batch)]


async def create(
    request: Request, backend: BackendDep, principal: CallerDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """A batch of a file's lines. All are checked before any is taken."""
    check_query(request)
    body = await read_json(request)
    try:
        body.check_texts([])
    finally:
        await body.close()
    file_id, metadata = _asked(body.value)
    make = partial(_created, backend, principal, file_id, metadata, idempotency_key)
    batch, ignored = await anyio.to_thread.run_sync(make, limiter=backend.batch_checks)
    view = await anyio.to_thread.run_sync(_view, backend, batch)
    request.app.state.feeder.wake()
    return JSONResponse(view, headers={"Infill-Ignored": listed(sorted(ignored))} if ignored else {})


def _asked(value: object) -> tuple[str, dict[str, str]]:
    """The file's id, and metadata. Raises InvalidField, UnknownField."""
    if not isinstance(value, dict):
        raise InvalidField("body: a JSON object with input_file_id, endpoint and completion_window.")
    if unknown := sorted(value.keys() - {"input_file_id", "endpoint", "completion_window", "metadata"}):
        raise UnknownField(f"{unknown[0][:100]!r} is not taken here.")
    if value.get("endpoint") != ENDPOINT:
        raise InvalidField(f"endpoint: {ENDPOINT} is the only one here.")
    if value.get("completion_window") != "24h":
        raise InvalidField("completion_window: 24h is the only one. The batch's expires_at says when it ends.")
    if not isinstance(file_id := value.get("input_file_id"), str):
        raise InvalidField("input_file_id: send the id of a file that was uploaded with purpose=batch.")
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, dict) or len(metadata) > MOST_METADATA or not all(map(_is_short, metadata.items())):
        raise InvalidField(
            f"metadata: at most {MOST_METADATA} texts of {MOST_VALUE} characters, with names of {MOST_NAME}."
        )
    return file_id, metadata


def _is_short(entry: tuple[str, object]) -> bool:
    name, value = entry
    return len(name) <= MOST_NAME and isinstance(value, str) and len(value) <= MOST_VALUE


def _created(
    backend: Backend, principal: Principal, file_id: str, metadata: dict[str, str], idempotency_key: str | None
) -> tuple[Batch, set[str]]:
    """The batch, and the names of fields that have no meaning here."""
    record, ignored = _owned_file(file_id, principal, backend), set[str]()
    with ExitStack() as opened:
        source = cast("BinaryIO", opened.enter_context(SpooledTemporaryFile(max_size=MEMORY_BYTES)))
        for part in backend.files.read(record):
            source.write(part)
        lines = opened.enter_context(translated(backend, source, ignored))
        origin = Origin(PREFIX, file_id, metadata)
        return make_batch(backend, principal, lines, idempotency_key, origin)[0], ignored


def look(batch: OwnedBatch, backend: BackendDep) -> dict[str, Any]:
    """How far it is."""
    return _view(backend, batch)


def cancel(batch: OwnedBatch, backend: BackendDep) -> dict[str, Any]:
    """Its jobs are canceled, and no line becomes one any more. One that has ended stays as it is."""
    return _view(backend, backend.batches.cancel(batch.id))


def _view(backend: Backend, batch: Batch) -> dict[str, Any]:
    counts, record, name = backend.batches.counts(batch.id), batch.record, batch.id.removeprefix(PREFIX)
    without = sum(counts.values()) - counts["succeeded"]
    ended_at = batch.ended_at and int(batch.ended_at)
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": ENDPOINT,
        "errors": None,
        "input_file_id": record.input_file,
        "completion_window": "24h",
        "status": STATUSES.get(batch.state, batch.state),
        "output_file_id": f"file-edits-{name}-output" if counts["succeeded"] else None,
        "error_file_id": f"file-edits-{name}-errors" if without else None,
        "created_at": int(record.created_at),
        "in_progress_at": int(record.created_at),
        "expires_at": int(record.expires_at),
        "finalizing_at": None,
        "completed_at": ended_at if batch.state == "completed" else None,
        "failed_at": None,
        "expired_at": ended_at if batch.state == "expired" else None,
        "cancelling_at": batch.canceling_at and int(batch.canceling_at),
        "cancelled_at": ended_at if batch.state == "canceled" else None,
        "request_counts": {"total": record.total, "completed": counts["succeeded"], "failed": counts["failed"]},
        "metadata": record.metadata or None,
    }
