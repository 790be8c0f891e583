"""What browsers and caches are told of every answer, and what no header of a request can bring about."""

import re

import httpx
import pytest

from app.main import create_app
from app.routes.page import FOLDER
from app.settings import ApiSettings
from tests.app.settling import Settler
from tests.app.submissions import submit

pytestmark = pytest.mark.anyio

ADDRESSES = ["/docs", "/redoc", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/models", "/nothing"]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_every_answer_has_the_headers_that_bind_browsers(client: httpx.AsyncClient, address: str) -> None:
    headers = (await client.get(address)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"


async def test_the_page_runs_no_script_and_has_no_style_but_from_its_own_files(client: httpx.AsyncClient) -> None:
    response = await client.get("/")
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    assert {policy[kind] for kind in ("script-src", "style-src", "connect-src", "worker-src")} == {"'self'"}
    assert not re.findall(r"<style|<[^>]+\s(?:on\w+|style)=", response.text), "no script and no style in attributes"
    for tag in re.findall(r"<script[^>]*>[^<]*", response.text):
        assert re.fullmatch(r'<script type="module" src="page/\w+\.js">\s*', tag)


FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix != ".md")


@pytest.mark.parametrize("name", FILES)
async def test_a_file_of_the_page_is_kept_and_asked_about_each_time(client: httpx.AsyncClient, name: str) -> None:
    address = "/" if name == "index.html" else f"/page/{name}"
    response = await client.get(address)
    assert response.content == (FOLDER / name).read_bytes()
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "script-src 'self'" in response.headers["Content-Security-Policy"], "a worker's is that of its own script"
    again = await client.get(address, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.get(address, headers={"If-None-Match": '"other"'})).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2fmain.py", "%2e%2e", "index.html%00"])
async def test_what_is_no_file_of_the_page_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/page/{name}")).status_code == 404


@pytest.mark.parametrize("address", ["/docs", "/redoc"])
async def test_the_openapi_pages_may_load_what_they_name(client: httpx.AsyncClient, address: str) -> None:
    response = await client.get(address)
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    scripts = re.findall(r"<script[^>]*?(?:src=\"([^\"]*)\")?[^>]*>", response.text)
    assert scripts
    assert all(source.startswith("/") or source == "" for source in scripts)
    assert {"'self'", "'unsafe-inline'"} <= set(policy["script-src"].split())
    assert {"'self'", "'unsafe-inline'"} <= set(policy["style-src"].split())
    assert "'self'" in policy["connect-src"] and "blob:" in policy["worker-src"] and "data:" in policy["img-src"]


async def test_files_that_do_not_change_may_be_kept(client: httpx.AsyncClient) -> None:
    response = await client.get("/static-offline-docs/swagger-ui.css")
    assert response.headers["etag"] and "Cache-Control" not in response.headers


async def test_a_jobs_json_is_kept_by_nobody_and_its_image_by_its_caller(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    submitted = await submit(client)
    job_id = submitted.json()["id"]
    settler.start(job_id)
    settler.succeed(job_id, [b"image"])
    waited = await submit(client, {"Idempotency-Key": "k", "Prefer": "wait=0"})
    looked = await client.get(f"/v1/jobs/{job_id}")
    for response in (submitted, waited, looked, await client.get("/v1/jobs/gone")):
        assert response.headers["Cache-Control"] == "no-store"
    image = await client.get(f"/v1/jobs/{job_id}/images/0")
    assert image.headers["Cache-Control"] == "private, max-age=3600, immutable"


@pytest.mark.parametrize("address", ["/v1/models/", "/v1/inpaint/", "/docs/", "//evil.example/v1/models"])
async def test_a_host_header_comes_into_no_location(client: httpx.AsyncClient, address: str) -> None:
    response = await client.get(f"http://api{address}", headers={"Host": "evil.example"})
    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "Location" not in response.headers
    location = (await submit(client, {"Host": "evil.example"})).headers["Location"]
    assert location.startswith("/v1/jobs/")


def test_every_address_documents_what_it_can_always_answer() -> None:
    paths = create_app(ApiSettings()).openapi()["paths"]
    for methods in paths.values():
        for operation in methods.values():
            assert {"400", "408", "431", "500", "503"} <= operation["responses"].keys()
    submission = paths["/v1/inpaint"]["post"]["responses"]
    assert {"too_many_uploads", "spool_full", "stopping"} <= submission["503"]["content"]["application/problem+json"][
        "examples"
    ].keys()
    assert {"400", "408", "413", "415"} <= submission.keys()
