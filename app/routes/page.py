"""``/``: one page for people, without anything from elsewhere."""

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'"
)


@cache
def _html() -> str:
    return (Path(__file__).parent.parent / "page" / "index.html").read_text()


@router.get("/", response_class=HTMLResponse)
def page() -> HTMLResponse:
    return HTMLResponse(_html(), headers={"Content-Security-Policy": POLICY})
