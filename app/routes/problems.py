"""``/problems/{code}``: what the ``type`` of a problem points to. JSON for a program, a page for a browser."""

from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse, Response

from app.examples import problems
from app.negotiation import HTML, prefers
from app.plain_page import plain_page
from app.problems import ProblemKind, kind_of

RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {HTML: {"schema": {"type": "string"}}}}}

router = APIRouter(prefix="/problems", tags=["operation"], responses=problems("invalid_field", "not_found"))

BODY = """\
<h1>{title}</h1>
<p>{description}</p>
<p>HTTP status <strong>{status}</strong>, code <code>{code}</code>. The response itself says in <code>detail</code> what
was wrong with the request.</p>
<p><a href="../docs/api.md#problems">Problems</a>, <a href="../docs/troubleshooting.md">troubleshooting</a>,
<a href="../docs">API reference</a></p>
"""


@router.get("/{code}", summary="What a problem's code means", response_model=ProblemKind, responses=RESPONSES)
def problem(code: str, accept: Annotated[str | None, Header(include_in_schema=False)] = None) -> Response:
    """The title, status and description of a problem's code: JSON, or a page where `Accept` prefers `text/html`."""
    try:
        kind = kind_of(code)
    except KeyError:
        raise HTTPException(404) from None
    if not prefers(accept, HTML):
        return JSONResponse(kind.model_dump(), headers={"Vary": "Accept"})
    shown = {name: escape(str(value)) for name, value in kind.model_dump().items()}
    return plain_page(code, BODY.format(**shown))
