"""Below a path of a proxy's: every address in a response leads back, whether the proxy strips the path or not."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from app.main import create_app
from app.routes.page import FOLDER
from app.settings import OWN_PATHS, ApiSettings
from infill_client import AsyncClient
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files

pytestmark = pytest.mark.anyio

ROOT_PATH = "/photos/infill"


@pytest.fixture
def settings(redis_url: str) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, root_path=ROOT_PATH)


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", ROOT_PATH], ids=["stripped", "passed on"])
async def test_the_addresses_of_a_job_lead_back(client: httpx.AsyncClient, settler: Settler, prefix: str) -> None:
    answer = await client.post(f"{prefix}/v1/inpaint", files=files())
    job: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == job["url"] == f"{ROOT_PATH}/v1/jobs/{job['id']}"
    settler.start(job["id"])
    settler.succeed(job["id"], [b"png"])
    ended = (await client.get(job["url"])).json()
    assert ended["images"][0]["url"] == f"{job['url']}/images/0"
    assert (await client.get(ended["images"][0]["url"])).content == b"png"


@pytest.mark.parametrize("prefix", ["", ROOT_PATH], ids=["stripped", "passed on"])
async def test_problems_pages_and_the_description_name_addresses_below_it(
    client: httpx.AsyncClient, prefix: str
) -> None:
    problem = (await client.get(f"{prefix}/v1/jobs/0")).json()
    assert problem["type"] == f"{ROOT_PATH}/problems/job_not_found"
    assert (await client.get(problem["type"])).json()["code"] == "job_not_found"
    assert (await client.get(f"{prefix}/openapi.json")).json()["servers"] == [{"url": ROOT_PATH}]
    docs = await client.get(f"{prefix}/docs")
    assert f"{ROOT_PATH}/openapi.json" in docs.text and "script-src 'self'" in docs.headers["Content-Security-Policy"]
    page = (await client.get(f"{prefix}/")).text
    assert 'href="docs"' in page
    for text in (page, *(path.read_text() for path in FOLDER.glob("*.js"))):
        assert not re.findall(r"[(=]\s*[\"`]/(?!/)", text), "addresses are relative to the page's"
    assert (await client.get(f"{prefix}/page/main.js")).status_code == 200
    refused = await client.put(f"{prefix}/v1/models")
    assert refused.headers["Allow"] == "GET, HEAD"


async def test_our_own_client_finds_its_images_below_it(client: httpx.AsyncClient, settler: Settler) -> None:
    async with AsyncClient(f"http://api{ROOT_PATH}", transport=client._transport) as infill:
        submitted = (await client.post("/v1/inpaint", files=files())).json()["id"]
        settler.start(submitted)
        settler.succeed(submitted, [b"png"])
        result = await infill.result(await infill.job(submitted))
        assert result.images == (b"png",)


@pytest.mark.parametrize("path", ["infill", "/infill/", "/", "/a b", "/a?b", "//a"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        ApiSettings(root_path=path)


@pytest.mark.parametrize("path", ["/v1", "/v1/photos", "/sdapi", "/docs"])
def test_a_path_that_begins_as_the_apis_own_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="begins as paths of the API itself do"):
        ApiSettings(root_path=path)
    assert ApiSettings(root_path=f"/infill{path}").root_path == f"/infill{path}"


def test_all_beginnings_of_own_paths_are_known() -> None:
    contexts: Any = iter_route_contexts(create_app(ApiSettings()).routes)
    assert {context.path.split("/")[1] for context in contexts} - {""} == OWN_PATHS
