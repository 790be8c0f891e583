"""The documents, served: each of them, with links that lead somewhere."""

import re
from pathlib import Path
from posixpath import join, normpath

import httpx
import pytest

from app.routes.documents import anchor
from tests.app.problems import assert_problem

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"
NAMES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def read(client: httpx.AsyncClient, name: str) -> str:
    answer = await client.get(f"/docs/{name}", headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), name
    assert "script" not in answer.headers["content-security-policy"]
    return answer.text


@pytest.mark.parametrize("name", NAMES)
async def test_a_document_is_a_page_for_a_browser_whose_links_lead_somewhere(
    client: httpx.AsyncClient, name: str
) -> None:
    page = await read(client, name)
    assert f"<title>{(DOCS / name).read_text().partition(chr(10))[0].removeprefix('# ')} - Infill</title>" in page
    links = re.findall(r'<a href="([^"]+)"', page)
    for address, _, place in (link.partition("#") for link in links):
        target = normpath(join("docs", name, "..", address)).removeprefix("docs/") if address else name
        assert not place or f'id="{place}"' in await read(client, target), f"{target}#{place}"
        await read(client, target)


async def test_a_document_is_markdown_for_a_program(client: httpx.AsyncClient) -> None:
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "text/markdown"}):
        answer = await client.get("/docs/design/queue.md", headers=headers)
        assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
        assert (answer.text, answer.headers["vary"]) == ((DOCS / "design" / "queue.md").read_text(), "Accept")


async def test_documents_lead_to_each_other_and_not_out_of_their_folder(client: httpx.AsyncClient) -> None:
    index = await read(client, "README.md")
    assert '<a href="first-model.md">' in index and "<span>../CONTRIBUTING.md</span>" in index
    assert 'href="../' not in index
    assert '<a href="../api.md"><code>docs/api.md</code></a>' in await read(client, "design/caching.md")
    assert '<h2 id="problems">' in await read(client, "api.md")
    assert anchor("What `decoding` takes, and why") == "what-decoding-takes-and-why"


@pytest.mark.parametrize("name", ["nothing.md", "page-wide.png", "../README.md", "%2e%2e/README.md", "design", "api"])
async def test_what_is_no_document_is_a_404(client: httpx.AsyncClient, name: str) -> None:
    assert_problem(await client.get(f"/docs/{name}"), 404, "not_found")


async def test_the_page_and_a_problem_lead_to_them(client: httpx.AsyncClient) -> None:
    assert 'href="docs/README.md"' in (await client.get("/")).text
    problem = (await client.get("/problems/queue_full", headers=BROWSER)).text
    for target in re.findall(r'href="\.\.(/docs/[^"#]+)', problem):
        assert (await client.get(target, headers=BROWSER)).status_code == 200
