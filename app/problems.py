"""Every error as RFC 9457 ``application/problem+json`` with a stable ``code``; the one place that knows statuses."""

import inspect
import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException

from app.submission_route import render_of
from jobs import errors
from jobs.connection import is_away, is_full
from jobs.errors import InfillError, InvalidField, RequestError, StoreFull, StoreUnavailable
from jobs.field_sentences import sentence_of
from jobs.schema import JobProblem, Record

logger = logging.getLogger("infill.api")

STATUSES: dict[type[InfillError], int] = {
    RequestError: 422,
    errors.UnknownModel: 404,
    errors.UnknownLora: 404,
    errors.TooLarge: 413,
    errors.RequestTimeout: 408,
    errors.NotAcceptable: 406,
    errors.UnsupportedCharset: 415,
    errors.UnsupportedEncoding: 415,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.Refused: 503,
    errors.RateLimited: 429,
    errors.QueueFull: 429,
    errors.QuotaExceeded: 429,
    errors.JobError: 409,
    errors.JobNotFound: 404,
    errors.BatchNotFound: 404,
    errors.UploadedFileNotFound: 404,
    errors.ImageNotFound: 404,
    errors.MaskNotKept: 404,
    errors.ResultExpired: 410,
    errors.StillRunning: 504,
    errors.JobFailure: 500,
    errors.Crashed: 502,
    errors.ModelUnavailable: 502,
    errors.DeadlineExceeded: 504,
    errors.BadLora: 422,
    errors.MaskNotFound: 422,
    errors.NoSurroundings: 422,
    errors.UnfitScheduler: 422,
    InfillError: 500,
}
"""Class -> status; a class that is not here has the status of its nearest base."""

HTTP_CODES: dict[int, tuple[str, str]] = {
    400: ("malformed_request", "The request cannot be read"),
    404: ("not_found", "There is nothing at this address"),
    405: ("method_not_allowed", "The address does not know this method"),
    413: (errors.TooLarge.code, errors.TooLarge.title),
    429: ("too_many_requests", "Too many calls"),
    431: ("headers_too_large", "The request's headers are too large"),
    415: ("unsupported_media_type", "The body is neither multipart/form-data nor JSON"),
    416: ("range_not_satisfiable", "The file has no such range"),
}
"""What the framework says by status alone -> code, title."""

SHOWN_FAULTS = 10

MEDIA_TYPE = "application/problem+json"

FORMS = {
    "loras": 'Send loras as in [{"name": "watercolour", "scale": 0.8}].',
    "mask_box": "Send mask_box as [left, top, right, bottom] or a list of these, in pixels.",
    "mask_points": "Send mask_points as [[x, y, 1], [x, y, 0], ...], in pixels; 1 is on the subject, 0 beside it.",
    "mask_polygon": "Send mask_polygon as [[x, y], [x, y], [x, y], ...] or a list of these, in pixels.",
}
"""Of the fields that hold JSON."""


class FieldProblem(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details, with a stable code."""

    type: str = Field(description="Address of the code's description, relative to this service.")
    title: str
    status: int
    detail: str = Field(description="A sentence that says what is wrong with this request, and what is allowed.")
    code: str = Field(description="Stable; decide by this.")
    instance: str = Field(description="The path that was asked.")
    request_id: str
    errors: list[FieldProblem] | None = Field(
        None, description=f"One entry a fault of a field, the first {SHOWN_FAULTS}."
    )
    score: float | None = Field(None, description="Of doubtful_subject: how far what was found can be relied on.")


class ProblemKind(Record):
    code: str
    status: int
    title: str
    description: str


def kind_of(code: str) -> ProblemKind:
    """What is known of a code, ours or the framework's. Raises KeyError."""
    if error := error_classes().get(code):
        description = " ".join(inspect.cleandoc(error.__doc__ or "").split("\n\n")[0].split())
        return ProblemKind(code=code, status=status_of(error), title=error.title, description=description)
    status, title = {known: (status, title) for status, (known, title) in HTTP_CODES.items()}[code]
    return ProblemKind(code=code, status=status, title=title, description=title + ".")


def status_of(error: type[InfillError]) -> int:
    return next(STATUSES[base] for base in error.__mro__ if base in STATUSES)


def error_classes() -> dict[str, type[InfillError]]:
    """Every code of the error tree and the class nearest its root that has it."""
    return {error.code: error for error in reversed(list(_tree(InfillError)))}


def _tree(root: type[InfillError]) -> Iterator[type[InfillError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def translate(error: RedisError) -> InfillError:
    """What an error of Redis means to a caller. The log names one that says nothing of Redis' state."""
    if is_full(error):
        return StoreFull("The store has no memory left; pictures expire with time.", 5)
    if not is_away(error):
        logger.error("unexpected_store_error", exc_info=error)
    return StoreUnavailable("The store does not serve now. Jobs that were accepted are safe; try again.", 2)


def problem_response(
    request: Request, error: InfillError, fields: list[FieldProblem] | None = None, status: int | None = None
) -> Response:
    """The problem an error is; ``status`` where it is not the usual one of its class."""
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, errors.Refused) else {}
    if isinstance(error, errors.Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="infill"'  # RFC 6750, section 3
    if isinstance(error, errors.RequestTimeout):
        headers["Connection"] = "close"  # the rest of the body would be taken for the next request
    status = status or status_of(type(error))
    more: dict[str, Any] = {"score": error.score} if isinstance(error, errors.DoubtfulSubject) else {}
    return _response(
        request, status, code=error.code, title=error.title, detail=str(error), headers=headers, fields=fields, **more
    )


def failure_response(request: Request, failure: JobProblem) -> Response:
    """The problem a failed job ended with."""
    error = error_classes().get(failure.code, errors.JobFailure)
    return _response(request, status_of(error), code=failure.code, title=error.title, detail=failure.message)


def _response(
    request: Request,
    status: int,
    *,
    code: str,
    title: str,
    detail: str,
    headers: dict[str, str] | None = None,
    fields: list[FieldProblem] | None = None,
    score: float | None = None,
) -> Response:
    request.state.code = code
    problem = Problem(
        type=f"{request.scope.get('root_path', '')}/problems/{code}",
        title=title,
        status=status,
        detail=detail,
        code=code,
        instance=request.url.path,
        request_id=getattr(request.state, "request_id", ""),
        errors=fields,
        score=score,
    )
    if render := render_of(request):
        return render(problem, headers or {})
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers, media_type=MEDIA_TYPE)


def bare_problem(code: str, detail: str, request_id: str) -> Problem:
    """The problem of what never became a request."""
    kind = kind_of(code)
    return Problem(
        type=f"/problems/{code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        code=code,
        instance="",
        request_id=request_id,
        errors=None,
        score=None,
    )


NO_TEXT = "There was an error parsing the body"
"""FastAPI's sentence about a JSON body that is not text."""


def http_problem(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A problem of the framework's own, known by its status alone."""
    phrase = HTTPStatus(status).phrase
    code, title = HTTP_CODES.get(status, ("http_error", phrase))
    sentences = {
        400: "The body is not text in UTF-8." if detail == NO_TEXT else detail,
        404: f"There is nothing at {request.url.path}. /docs lists all addresses; none ends with a slash.",
        405: f"{request.url.path} does not know {request.method}.",
        413: "The request's body is larger than this service takes.",
        416: "Range: the file has no such bytes. Send the request without Range.",
    }
    return _response(request, status, code=code, title=title, detail=sentences.get(status, detail), headers=headers)


# ---- handlers


async def _on_error(request: Request, error: Exception) -> Response:
    return problem_response(request, cast(InfillError, error))


async def _on_redis_error(request: Request, error: Exception) -> Response:
    return problem_response(request, translate(cast(RedisError, error)))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    exception = cast(HTTPException, error)
    headers = dict(exception.headers) if exception.headers else None
    if headers and "Allow" in headers:
        headers["Allow"] = _methods_of(request, headers["Allow"])
    return http_problem(request, exception.status_code, str(exception.detail), headers)


def _methods_of(request: Request, first_route: str) -> str:
    """All methods of the address; Starlette names those of its first route. HEAD is answered by ``RequestContext``."""
    paths = request.app.openapi()["paths"]  # the page and /docs are not in it; each is one route
    here = request.scope["path"].removeprefix(
        request.scope.get("root_path", "")
    )  # of two routes with this address, the framework may name the one with a parameter
    described = paths.get(here) or paths.get(getattr(request.scope.get("route"), "path", None), {})
    methods = {method.upper() for method in described} or set(first_route.split(", "))
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    found = cast(RequestValidationError, error).errors()
    fields = [FieldProblem(field=_field_of(item), message=_message_of(item)) for item in found[:SHOWN_FAULTS]]
    sentences = [f"{field.field}: {field.message}" for field in fields]
    if len(found) > SHOWN_FAULTS:
        sentences.append(f"And {len(found) - SHOWN_FAULTS} more faults.")
    detail = " ".join(sentences)
    return problem_response(request, InvalidField(detail), fields)


def _field_of(item: dict[str, Any]) -> str:
    where = [str(part)[:100] for part in item["loc"][1:]]
    return ".".join(where) or "body"


def _message_of(item: dict[str, Any]) -> str:
    sentence = sentence_of(item)
    form = FORMS.get(str(item["loc"][1])) if len(item["loc"]) > 1 else None
    return f"{sentence} {form}" if form else sentence


def install(app: FastAPI) -> None:
    app.add_exception_handler(InfillError, _on_error)
    app.add_exception_handler(RedisError, _on_redis_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
