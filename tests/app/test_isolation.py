"""Two tenants and every route of the app, of every dialect: what is one's is not there for the other.

The routes are those that the app has: a new one fails here until it is named in ``SCOPES_OF`` or falls under a dialect.
"""

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from redis import Redis

from app.authentication import digest
from app.settings import ApiSettings
from jobs import keys
from jobs.api_keys import SCOPES, ApiKeys
from tests.app.every_route import address, routes
from tests.app.pictures import box_mask, photo
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files
from tests.factories import encoded

pytestmark = pytest.mark.anyio

OPEN = {
    *("GET /healthz", "GET /readyz", "GET /problems/{code}", "GET /openapi.json"),
    *("GET /", "GET /docs", "GET /docs/oauth2-redirect", "GET /redoc", "GET /redoc/script.js"),
    *("GET /page/{name}", "GET /docs/{name}.md", "GET /docs/design/{name}.md"),
}
SCOPES_OF = {
    "POST /v1/inpaint": "submit",
    "POST /v1/masks": "submit",
    "POST /v1/jobs/cancel": "submit",
    "DELETE /v1/jobs/{job_id}": "submit",
    "GET /v1/jobs": "read",
    "GET /v1/jobs/{job_id}": "read",
    "GET /v1/jobs/{job_id}/events": "read",
    "GET /v1/jobs/{job_id}/images/{index}": "read",
    "GET /v1/jobs/{job_id}/mask": "read",
    "POST /v1/batches": "submit",
    "POST /v1/batches/{batch_id}/cancel": "submit",
    "GET /v1/batches": "read",
    "GET /v1/batches/{batch_id}": "read",
    "GET /v1/batches/{batch_id}/results": "read",
    "GET /v1/batches/batch_edits_{name}": "read",
    "POST /v1/batches/batch_edits_{name}/cancel": "submit",
    "POST /v1/files": "submit",
    "GET /v1/files": "read",
    "GET /v1/files/{file_id}": "read",
    "DELETE /v1/files/{file_id}": "submit",
    "GET /v1/files/{file_id}/content": "read",
    "GET /v1/capabilities": "read",
    "GET /v1/models": "read",
    "GET /v1/loras": "read",
    "GET /v1/schedulers": "read",
    "GET /v1/workers": "admin",
    "GET /metrics": "admin",
    "POST /sdapi/v1/png-info": "read",
}
DIALECTS = ("/v1/images/", "/images/", "/openai/", "/sdapi/", "/controlnet/", "/internal/")
"""Of other services: reading is GET, all else submits."""

SECRET = "a prompt that nobody else reads"
RESULT = b"\x89PNG a result that nobody else sees"
BASE64 = [base64.b64encode(encoded(picture)).decode() for picture in (photo(), box_mask())]


def scope_of(route: str) -> str | None:
    """The scope that a route asks for; None: it asks for no key. Raises KeyError for one that nobody has named."""
    method, path = route.split()
    path = path if path == "/" else path.rstrip("/")
    if f"{method} {path}" in OPEN:
        return None
    if f"{method} {path}" not in SCOPES_OF and path.startswith(DIALECTS):
        return "read" if method == "GET" else "submit"
    return SCOPES_OF[f"{method} {path}"]


@dataclass
class Owner:
    """A tenant with a job in each state, and what nobody else may learn."""

    client: httpx.AsyncClient
    key: dict[str, str]
    jobs: dict[str, str] = field(default_factory=dict)

    async def submit(self, name: str) -> str:
        headers = self.key | {"Idempotency-Key": name}
        answer = await self.client.post("/v1/inpaint", files=files(), data={"prompt": SECRET}, headers=headers)
        assert answer.status_code == 202, answer.text
        self.jobs[name] = answer.json()["id"]
        return self.jobs[name]

    async def submit_by_dialects(self, connection: Redis) -> None:
        known = set(self.jobs.values())
        edit = {"image": ("a.png", encoded(photo())), "mask": ("b.png", encoded(box_mask()))}
        await self.client.post(
            "/v1/images/edits", files=edit, data={"prompt": SECRET, "mask_mode": "white"}, headers=self.key
        )
        body = {"init_images": BASE64[:1], "mask": BASE64[1], "prompt": SECRET}
        await self.client.post("/sdapi/v1/img2img", json=body, headers=self.key)
        found = {key.decode().split(":")[2] for key in connection.scan_iter("rq:job:*")} - known
        self.jobs |= {f"of a dialect {number}": job_id for number, job_id in enumerate(sorted(found))}
        assert len(found) == 2

    def state(self, connection: Redis) -> dict[str, Any]:
        """All that Redis has of the jobs."""
        records = {job_id: connection.hgetall(f"rq:job:{job_id}") for job_id in self.jobs.values()}
        flags = {job_id: connection.exists(keys.cancel(job_id)) for job_id in self.jobs.values()}
        return {"records": records, "flags": flags, "waiting": connection.lrange("rq:queue:inpaint", 0, -1)}


@pytest.fixture
def settings(redis_url: str) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, auth="on", max_wait_s=0, caller_share=1)


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


@pytest.fixture
async def owner(client: httpx.AsyncClient, connection: Redis, settler: Settler) -> Owner:
    owner = Owner(client, {"X-API-Key": ApiKeys(connection).create("acme")[0]})
    settler.start(await owner.submit("succeeded"))
    settler.succeed(owner.jobs["succeeded"], [RESULT])
    settler.start(await owner.submit("running"))
    await owner.submit("waiting")
    await owner.submit_by_dialects(connection)
    return owner


@pytest.fixture
def rival(connection: Redis) -> dict[str, str]:
    """A key of another tenant that may do everything."""
    return {"X-API-Key": ApiKeys(connection).create("rival", SCOPES)[0]}


def bodies(route: str, job_id: str) -> Iterator[dict[str, Any]]:
    """What a caller could send there: the id under any name, and the owner's own submission under its key."""
    if route.startswith("POST"):
        yield {"json": {"ids": [job_id]}}
        yield {"json": dict.fromkeys(("id", "job", "job_id", "task_id", "id_task"), job_id)}
        yield {"json": {"init_images": BASE64[:1], "mask": BASE64[1], "force_task_id": job_id, "images": BASE64[:1]}}
        yield {"files": files(), "data": {"prompt": SECRET}, "headers": {"Idempotency-Key": "waiting"}}
    else:
        yield {"headers": {"Last-Event-ID": "0"}}


def makes_jobs(route: str) -> bool:
    return route.endswith(("inpaint", "edits", "img2img", "img2img/"))


def test_every_route_is_known_and_nothing_is_named_that_is_not_there() -> None:
    for route in routes():
        scope_of(route)
    assert OPEN | SCOPES_OF.keys() <= set(routes())
    assert len([route for route in routes() if scope_of(route)]) > 60


async def test_a_key_is_let_in_by_the_scope_of_each_route_and_by_no_other(
    client: httpx.AsyncClient, connection: Redis
) -> None:
    by_scope = {scope: {"X-API-Key": ApiKeys(connection).create("acme", [scope])[0]} for scope in SCOPES}
    for route in routes():
        method, asked = route.split()[0], address(route, "0")
        without = (await client.request(method, asked)).status_code
        assert (without == 401) is bool(scope_of(route)), route
        for scope, key in by_scope.items():
            status = (await client.request(method, asked, headers=key)).status_code
            assert (status == 403) is (scope_of(route) not in (None, scope)), (route, scope)
            assert status != 401


async def test_another_tenants_jobs_are_nowhere_and_stay_as_they_were(
    client: httpx.AsyncClient, owner: Owner, rival: dict[str, str], connection: Redis
) -> None:
    before = owner.state(connection)
    for job_id in owner.jobs.values():
        others = set(owner.jobs.values()) - {job_id}
        for route in sorted(routes(), key=makes_jobs):  # while the rival has no latest job that would hide another's
            method, path = route.split()
            for sent in bodies(route, job_id):
                headers = rival | sent.pop("headers", {})
                answer = await client.request(method, address(route, job_id), headers=headers, **sent)
                told = answer.text + str(answer.headers)
                assert SECRET not in told and not [other for other in others if other in told], route
                assert RESULT not in answer.content and base64.b64encode(RESULT) not in answer.content, route
                if "{job_id}" in path:
                    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found"), route
                    absent = await client.request(method, address(route, "0" * 32), headers=headers, **sent)
                    assert answer.json()["detail"] == absent.json()["detail"].replace("0" * 32, job_id)
    after = owner.state(connection)
    made = connection.zcard(keys.jobs_of(digest("tenant rival")))
    assert made > 5, "its submissions were refused, so they showed nothing"
    own = set(owner.jobs.values())
    after["waiting"] = [job_id for job_id in after["waiting"] if job_id.decode() in own]
    assert after == before


async def test_the_owner_itself_has_all_of_it(client: httpx.AsyncClient, owner: Owner) -> None:
    """What the other test does not find is there."""
    listed = {job["id"] for job in (await client.get("/v1/jobs", headers=owner.key)).json()["jobs"]}
    assert listed == set(owner.jobs.values())
    image = await client.get(f"/v1/jobs/{owner.jobs['succeeded']}/images/0", headers=owner.key)
    assert image.content == RESULT
    progress = await client.get("/sdapi/v1/progress", headers=owner.key)
    assert progress.json()["state"]["job_count"] == 1
    ids = list(owner.jobs.values())
    canceled = (await client.post("/v1/jobs/cancel", json={"ids": ids}, headers=owner.key)).json()["jobs"]
    assert {job["outcome"] for job in canceled if job["id"] != owner.jobs["succeeded"]} == {"canceled", "stopping"}
