"""``/problems/{code}``: what the ``type`` of a problem points to. JSON for a program, a page for a browser."""

from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.exceptions import HTTPException
from fastapi.responses import HTMLResponse, JSONResponse, Response

from app.examples import problems
from app.negotiation import prefers
from app.problems import ProblemKind, kind_of

HTML = "text/html"
RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {HTML: {"schema": {"type": "string"}}}}}

router = APIRouter(prefix="/problems", tags=["operation"], responses=problems("invalid_field", "not_found"))

STYLE = (
    "color-scheme: light dark; font: 16px/1.6 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; "
    "padding: 0 1rem"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{code} - Infill</title>
</head>
<body style="{style}">
<main>
<h1>{title}</h1>
<p>{description}</p>
<p>HTTP status <strong>{status}</strong>, code <code>{code}</code>. The response itself says in <code>detail</code> what
was wrong with the request.</p>
<p><a href="../docs">API reference</a></p>
</main>
</body>
</html>
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
    return HTMLResponse(
        PAGE.format(**shown, style=STYLE), headers={"Vary": "Accept", "Content-Security-Policy": POLICY}
    )
