"""``/``: one page for people, and the files it is made of; ``/redoc``: the reference. Nothing is from elsewhere."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_redoc_html
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from app.responses import names_etag

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "page"

MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".png": "image/png",
}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Of the page and of its scripts: what a worker may load is said where its own script is sent."""

REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
"""ReDoc's script shows its maker's logo, from its maker's host, and has no option for that."""
NO_PICTURE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>"


@dataclass(frozen=True)
class PageFile:
    content: bytes
    media_type: str
    etag: str


@cache
def _files() -> dict[str, PageFile]:
    """The page's files by name, read once."""
    found = {}
    for path in FOLDER.iterdir():
        if media_type := MEDIA_TYPES.get(path.suffix):
            content = path.read_bytes()
            found[path.name] = PageFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found


def _sent(request: Request, name: str) -> Response:
    """A file that browsers keep, and ask about each time: after an update no old one is mixed with new ones."""
    file = _files()[name]
    headers = {"ETag": file.etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if request.method == "GET" and names_etag(request, file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)


@router.get("/", response_class=HTMLResponse)
def page(request: Request) -> Response:
    return _sent(request, "index.html")


@router.get("/page/{name}", response_class=Response)
def page_file(request: Request, name: str) -> Response:
    if name not in _files():
        raise HTTPException(404)
    return _sent(request, name)


@router.get("/redoc", response_class=HTMLResponse)
def redoc() -> HTMLResponse:
    return get_redoc_html(
        openapi_url="/openapi.json",
        title="Infill - ReDoc",
        redoc_js_url="/redoc/script.js",
        redoc_favicon_url="/static-offline-docs/favicon.png",
        with_google_fonts=False,
    )


@cache
def _redoc_script() -> str:
    script = Path(fastapi_offline.__file__).parent / "static" / "redoc.standalone.js"
    return script.read_text().replace(REDOC_LOGO, NO_PICTURE)


@router.get("/redoc/script.js", response_class=Response)
def redoc_script() -> Response:
    return Response(_redoc_script(), media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})
