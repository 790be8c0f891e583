"""``/docs/README.md`` and what it leads to: the documents. Markdown for a program, a page for a browser."""

import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import Response
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from starlette.exceptions import HTTPException

from app.negotiation import HTML, MARKDOWN, prefers
from app.plain_page import plain_page

FOLDER = Path(__file__).parent.parent / "docs"
"""A link to the folder ``docs/``, so that the documents are packed with the API."""

router = APIRouter(prefix="/docs", include_in_schema=False)


@cache
def _documents() -> dict[str, str]:
    """Markdown by address below the folder, such as ``design/queue.md``; read once."""
    return {path.relative_to(FOLDER).as_posix(): path.read_text() for path in sorted(FOLDER.rglob("*.md"))}


class _Renderer(RendererHTML):
    """HTML whose headings can be linked to, and whose links to files that are not served are plain text."""

    def heading_open(self, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
        tokens[at].attrSet("id", anchor(tokens[at + 1].content))
        return self.renderToken(tokens, at, options, env)

    def link_open(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        """A link that leads out of the folder becomes a span, as does its end."""
        below = env["name"].count("/")
        env["served"] = str(tokens[at].attrs["href"]).count("../") <= below
        return self.renderToken(tokens, at, options, env) if env["served"] else "<span>"

    def link_close(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        return "</a>" if env["served"] else "</span>"

    def code_inline(self, tokens: Sequence[Token], at: int, options: Any, env: MutableMapping[str, Any]) -> str:
        """A document that is named as ``docs/api.md`` becomes a link to it."""
        shown = super().code_inline(tokens, at, options, env)
        name = tokens[at].content.removeprefix("docs/")
        if name == tokens[at].content or name not in _documents():
            return shown
        return f'<a href="{"../" * env["name"].count("/")}{name}">{shown}</a>'


def anchor(heading: str) -> str:
    """What links to a heading name it by: small letters and digits, with hyphens for blanks."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@cache
def _html(name: str) -> str:
    markdown = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")
    return str(markdown.render(_documents()[name], {"name": name}))


@router.get("/{name}.md", response_class=Response)
def document(name: str, accept: Annotated[str | None, Header()] = None) -> Response:
    return _sent(f"{name}.md", accept)


@router.get("/design/{name}.md", response_class=Response)
def design_document(name: str, accept: Annotated[str | None, Header()] = None) -> Response:
    return _sent(f"design/{name}.md", accept)


def _sent(name: str, accept: str | None) -> Response:
    if name not in _documents():
        raise HTTPException(404)
    if not prefers(accept, HTML, to=MARKDOWN):
        return Response(_documents()[name], media_type=MARKDOWN, headers={"Vary": "Accept"})
    index = f'<p><a href="{"../" * name.count("/")}README.md">Index</a></p>\n'
    return plain_page(_documents()[name].partition("\n")[0].removeprefix("# "), index + _html(name))
