"""``/v1/batches``: many requests in one call, done at low priority."""

import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO
from uuid import uuid4

import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.datastructures import UploadFile

from app.authentication import Principal, digest, needs, principal_of
from app.backend import Backend, BackendDep
from app.batch_lines import CheckedLines, check_lines, chunks_of
from app.batch_view import BatchView, view_of
from app.bodies import arriving, discard
from app.content_types import FORM, check_kind_among
from app.examples import KEY_PROBLEMS, problems
from app.forms import LenientParser, check_query, read_form
from app.outgoing import MEMORY_BYTES
from app.paging import Cursor, Limit, check_listed, next_page, place_of, takes
from app.routes.inpaint import IdempotencyKey
from jobs.batches import Batch, BatchRecord, no_batch
from jobs.errors import BatchNotFound, IdempotencyConflict, InvalidField, NotStored, UnknownField
from jobs.schema import Record

JSONL = "application/jsonl"
KINDS = (JSONL, "application/x-ndjson", "application/x-jsonlines", FORM)
REMEDY = f"Send {JSONL}, a JSON request with a custom_id a line; or {FORM} with these lines as the file 'file'."
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
LINES_AT_ONCE = 500
"""Of the results, read together."""

READ, SUBMIT = [needs("read")], [needs("submit")]
LINES: dict[str, Any] = {"schema": {"type": "string", "description": "A JSON object a line."}}
BODIES: dict[str, Any] = {
    JSONL: LINES,
    FORM: {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
    },
}


class BatchesView(Record):
    batches: list[BatchView] = Field(description="Newest first.")
    next: str | None = Field(description="`cursor` of the next page; null: there is none.")


@dataclass(frozen=True)
class Origin:
    """Which API a batch comes from: the prefix of its id, and what only that API shows. Lists here show our own."""

    prefix: str = "batch_"
    input_file: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


OURS = Origin()

CallerDep = Annotated[Principal, Depends(principal_of)]


def owned_batch(batch_id: str, principal: CallerDep, backend: BackendDep) -> Batch:
    """The batch, if the caller may have it, as with jobs. Raises BatchNotFound."""
    return owned(batch_id, BATCH_ID, principal, backend)


def owned(batch_id: str, form: re.Pattern[str], principal: Principal, backend: Backend) -> Batch:
    """The same of a batch whose id has this form."""
    if not form.fullmatch(batch_id):
        raise no_batch(batch_id)
    batch = backend.batches.find(batch_id)
    if principal.tenant is not None and batch.record.owner != principal.name:
        raise no_batch(batch_id)
    return batch


OwnedBatch = Annotated[Batch, Depends(owned_batch)]


def make_router(max_body_bytes: int) -> APIRouter:
    """The route's body limit comes from the settings, hence a function."""
    router = APIRouter(tags=["batches"], responses=problems("invalid_field", *KEY_PROBLEMS))
    router.add_api_route(
        "/v1/batches",
        create,
        methods=["POST"],
        status_code=201,
        response_model=BatchView,
        responses=problems(
            *("malformed_request", "unsupported_media_type", "unsupported_charset", "unsupported_encoding"),
            *("request_timeout", "invalid_field", "unknown_field", "idempotency_conflict", "too_large"),
            *("quota_exceeded", "store_full", "spool_full", "too_many_uploads", "stopping"),
        ),
        summary="Submit many requests",
        max_body_size=max_body_bytes,
        openapi_extra={"requestBody": {"required": True, "content": BODIES}},
        dependencies=SUBMIT,
    )
    router.add_api_route(
        "/v1/batches",
        batches,
        methods=["GET"],
        response_model=BatchesView,
        summary="List your batches",
        dependencies=[*READ, takes("limit", "cursor")],
    )
    one: dict[str, Any] = {"response_model": BatchView, "responses": problems("batch_not_found")}
    router.add_api_route("/v1/batches/{batch_id}", look, methods=["GET"], summary="A batch", dependencies=READ, **one)
    router.add_api_route(
        "/v1/batches/{batch_id}/cancel", cancel, methods=["POST"], summary="Cancel a batch", dependencies=SUBMIT, **one
    )
    router.add_api_route(
        "/v1/batches/{batch_id}/results",
        results,
        methods=["GET"],
        response_class=Response,
        responses={
            200: {"description": "A JSON object for each line that has ended.", "content": {JSONL: LINES}},
            **problems("batch_not_found"),
        },
        summary="What became of the lines",
        dependencies=READ,
    )
    return router


async def create(
    request: Request, backend: BackendDep, principal: CallerDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Each line is the JSON of `POST /v1/inpaint` with a `custom_id`. All are checked before any is taken.

    They become jobs of low priority, a bounded number at a time.
    """
    check_query(request)
    kind = check_kind_among(request, KINDS, REMEDY)
    with ExitStack() as opened:
        file = await (_from_form(request, opened) if kind == FORM else _from_body(request, opened))
        make = partial(make_batch, backend, principal, file, idempotency_key)
        batch, replayed = await anyio.to_thread.run_sync(make, limiter=backend.batch_checks)
        view = await anyio.to_thread.run_sync(view_of, backend, batch)
    request.app.state.feeder.wake()
    headers = {"Location": view.url} | ({"Idempotency-Replayed": "true"} if replayed else {})
    return JSONResponse(view.model_dump(mode="json"), 201, headers)


async def _from_body(request: Request, opened: ExitStack) -> BinaryIO:
    spooled = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  # closed with the call
    opened.callback(discard, spooled)  # type: ignore[arg-type]
    file = UploadFile(spooled)  # type: ignore[arg-type]
    with arriving():
        async for part in request.stream():
            await file.write(part)
    return file.file


async def _from_form(request: Request, opened: ExitStack) -> BinaryIO:
    form = await read_form(request, LenientParser)
    for _, part in form.multi_items():
        if isinstance(part, UploadFile):
            opened.callback(discard, part.file)
    names = [name for name, _ in form.multi_items()]
    if unknown := sorted(set(names) - {"file"}):
        raise UnknownField(f"There is no field {unknown[0][:100]!r}. Send the lines as the file 'file'.")
    file = form.get("file")
    if len(names) != 1 or not isinstance(file, UploadFile):
        raise InvalidField("file: Send one file, with a filename: the lines.")
    return file.file


def make_batch(
    backend: Backend,
    principal: Principal,
    file: BinaryIO,
    idempotency_key: str | None,
    origin: Origin = OURS,
) -> tuple[Batch, bool]:
    """The batch, and whether an earlier call with this key has made it. Raises what the route's description lists."""
    batches, settings = backend.batches, backend.settings
    size = file.seek(0, 2)
    lines = check_lines(backend, file)
    name = uuid4().hex if idempotency_key is None else digest(f"batch\n{principal.name}\n{idempotency_key}")
    batch_id = f"{origin.prefix}{name}"
    if idempotency_key is not None and (earlier := _earlier(backend, batch_id, lines)):
        return earlier, True
    batches.check_caller(principal.name)
    backend.queue.room.check(size, "low")
    now = datetime.now(UTC).timestamp()
    record = BatchRecord(
        id=batch_id,
        owner=principal.name,
        created_at=now,
        expires_at=now + settings.batch_ttl_s,
        total=lines.total,
        upload=f"lines-{uuid4().hex}",
        chunks=lines.chunks,
        fingerprint=lines.digest,
        input_file=origin.input_file,
        metadata=origin.metadata,
    )
    try:
        for number, (_, chunk) in enumerate(chunks_of(file, settings.batch_lines)):
            batches.put_chunk(record.upload, number, b"\n".join(text for _, text in chunk))
        if made := batches.create(record, principal.tenant is not None and origin is OURS):
            return made, False
        earlier = _earlier(backend, batch_id, lines)  # two calls with one key at once
        assert earlier
        batches.drop_chunks(record)
        return earlier, True
    except Exception as error:
        with suppress(Exception):
            batches.drop_chunks(record)
        if isinstance(error, NotStored):
            raise backend.queue.room.full() from None
        raise


def _earlier(backend: Backend, batch_id: str, lines: CheckedLines) -> Batch | None:
    """The batch of an earlier call with the same key. Raises IdempotencyConflict."""
    try:
        batch = backend.batches.find(batch_id)
    except BatchNotFound:
        return None
    if batch.record.fingerprint != lines.digest:
        raise IdempotencyConflict("This Idempotency-Key came before with other lines; use a new key.")
    return batch


def look(batch: OwnedBatch, backend: BackendDep) -> BatchView:
    """How far it is. Its record lives as long as a job's after its end."""
    return view_of(backend, batch)


def batches(
    principal: CallerDep,
    backend: BackendDep,
    response: Response,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> BatchesView:
    """The batches of your API key's tenant whose records have not expired. A service without keys lists none."""
    check_listed(principal)
    places, views = backend.batches.index.older(principal.name, place_of(cursor), limit), []
    for each in places:
        try:
            views.append(view_of(backend, backend.batches.find(each.job_id)))
        except BatchNotFound:
            backend.batches.index.forget(principal.name, [each.job_id])
    last = places[-1] if len(places) == limit else None
    return BatchesView(batches=views, next=next_page(response, last, limit=limit))


def cancel(batch: OwnedBatch, backend: BackendDep) -> BatchView:
    """Its jobs are canceled, and no line becomes one any more. One that has ended stays as it is."""
    return view_of(backend, backend.batches.cancel(batch.id))


async def results(batch: OwnedBatch, backend: BackendDep) -> Response:
    """A JSON object for each line that has ended, in the order of the lines.

    An image can be fetched as long as results live (`INFILL_RESULT_TTL_S`).
    """

    async def rows() -> AsyncIterator[str]:
        for start in range(0, batch.record.total, LINES_AT_ONCE):
            stop = min(start + LINES_AT_ONCE, batch.record.total)
            ended = await anyio.to_thread.run_sync(backend.batches.outcomes, batch.id, start, stop)
            yield "".join(f"{outcome.model_dump_json()}\n" for outcome in ended)

    return StreamingResponse(rows(), media_type=JSONL)
