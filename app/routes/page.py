"""``/``: one page for people, without anything from elsewhere."""

import base64
import hashlib
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src {script}; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


@cache
def _html() -> str:
    return (Path(__file__).parent.parent / "page" / "index.html").read_text()


@cache
def _policy() -> str:
    """Only the page's own script runs: it is named by its digest (CSP 3)."""
    script = _html().partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return POLICY.format(script=f"'sha256-{digest}'")


@router.get("/", response_class=HTMLResponse)
def page() -> HTMLResponse:
    return HTMLResponse(_html(), headers={"Content-Security-Policy": _policy()})
