"""API keys: who is let in, for what, and that a tenant sees nothing of another's."""

import asyncio
import base64
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from app.authentication import KNOWN_S
from app.main import create_app
from app.settings import ApiSettings
from jobs import keys
from jobs.api_keys import ApiKeys
from jobs.errors import InvalidField
from tests.app.processes import ROOT, api_process
from tests.app.serving import serve
from tests.app.submissions import files
from tests.redis_server import free_port

pytestmark = pytest.mark.anyio

OPEN = {"/healthz", "/readyz", "/problems/{code}"}


@pytest.fixture
def known(connection: Redis) -> ApiKeys:
    return ApiKeys(connection)


@pytest.fixture
async def guarded(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings.model_copy(update={"auth": "on"})) as client:
        yield client


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def submit(client: httpx.AsyncClient, key: str, **headers: str) -> httpx.Response:
    return await client.post("/v1/inpaint", files=files(), headers=bearer(key) | headers)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        (path, method)
        for path, methods in create_app(ApiSettings()).openapi()["paths"].items()
        for method in methods
        if path not in OPEN
    ],
)
async def test_nothing_but_health_and_descriptions_is_answered_without_a_key(
    guarded: httpx.AsyncClient, path: str, method: str
) -> None:
    address = re.sub(r"{.*?}", "0", path)
    answer = await guarded.request(method.upper(), address)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/", "/docs", "/docs/api.md", "/openapi.json", "/problems/crashed"])
async def test_what_tells_nothing_of_jobs_is_open(guarded: httpx.AsyncClient, path: str) -> None:
    assert (await guarded.get(path)).status_code == 200


async def test_a_key_is_taken_in_each_usual_form(guarded: httpx.AsyncClient, known: ApiKeys) -> None:
    key, _ = known.create("acme")
    basic = base64.b64encode(f"anyone:{key}".encode()).decode()
    as_user = base64.b64encode(f"{key}:".encode()).decode()
    forms = [bearer(key), {"X-API-Key": key}, {"api-key": key}, {"Authorization": f"Basic {basic}"}]
    for headers in [*forms, {"Authorization": f"Basic {as_user}"}, {"authorization": f"bearer   {key} "}]:
        assert (await guarded.get("/v1/models", headers=headers)).status_code == 200, headers


async def test_what_is_no_known_key_is_refused(guarded: httpx.AsyncClient, known: ApiKeys) -> None:
    key, record = known.create("acme")
    other, _ = known.create("other")
    wrong = [key[:-1], key + "x", key.replace("infill_", ""), f"infill_{record.id}_{other[-43:]}", "Ä", "x" * 5000]
    for text in wrong:
        assert (await guarded.get("/v1/models", headers={b"X-API-Key": text.encode()})).status_code == 401, text
    for headers in ({"Authorization": "Digest x"}, {"Authorization": "Basic ???"}, bearer(key) | {"X-API-Key": other}):
        assert (await guarded.get("/v1/models", headers=headers)).status_code == 401, headers


async def test_scopes_say_what_a_key_may(guarded: httpx.AsyncClient, known: ApiKeys) -> None:
    reader, submitter = known.create("acme", ["read"])[0], known.create("acme", ["submit"])[0]
    admin = known.create("ops", ["admin"])[0]
    assert (await submit(guarded, reader)).json()["code"] == "forbidden"
    accepted = await submit(guarded, submitter)
    assert accepted.status_code == 202
    job = accepted.headers["Location"]
    assert (await guarded.get(job, headers=bearer(reader))).status_code == 200
    assert (await guarded.get(job, headers=bearer(submitter))).status_code == 403
    assert (await guarded.delete(job, headers=bearer(reader))).status_code == 403
    for path in ("/metrics", "/v1/workers"):
        assert (await guarded.get(path, headers=bearer(reader))).status_code == 403
        assert (await guarded.get(path, headers=bearer(admin))).status_code == 200


async def test_a_revoked_key_is_refused_while_the_service_runs(guarded: httpx.AsyncClient, known: ApiKeys) -> None:
    key, record = known.create("acme")
    assert (await guarded.get("/v1/models", headers=bearer(key))).status_code == 200
    assert known.revoke(record.id) and not known.revoke(record.id)
    await asyncio.sleep(KNOWN_S)
    assert (await guarded.get("/v1/models", headers=bearer(key))).status_code == 401


async def test_another_tenants_job_is_not_found_on_any_route(guarded: httpx.AsyncClient, known: ApiKeys) -> None:
    mine, mine_too, yours = (known.create(tenant)[0] for tenant in ("acme", "acme", "rival"))
    job = (await submit(guarded, mine)).headers["Location"]
    absent = await guarded.get("/v1/jobs/0", headers=bearer(yours))
    for method, path in (("GET", ""), ("GET", "/images/0"), ("GET", "/events"), ("HEAD", ""), ("DELETE", "")):
        answer = await guarded.request(method, job + path, headers=bearer(yours))
        assert answer.status_code == 404, (method, path)
        if method != "HEAD":
            job_id = job.rpartition("/")[2]
            assert answer.json()["detail"].replace(job_id, "0") == absent.json()["detail"]
    assert (await guarded.get(job, headers=bearer(mine_too))).json()["status"] == "queued"


async def test_tenants_do_not_share_idempotency_keys(guarded: httpx.AsyncClient, known: ApiKeys) -> None:
    mine, mine_too, yours = (known.create(tenant)[0] for tenant in ("acme", "acme", "rival"))
    answers = [await submit(guarded, key, **{"Idempotency-Key": "1"}) for key in (mine, mine_too, yours)]
    first, again, other = (answer.headers["Location"] for answer in answers)
    assert first == again != other


async def test_a_refused_caller_does_not_get_to_send_its_body(tmp_path: Path, redis_url: str) -> None:
    """The answer comes before the body is read: what is announced is never waited for."""
    form, text = "multipart/form-data; boundary=x", "application/json"
    calls = [("/v1/inpaint", form), ("/v1/inpaint", text), ("/v1/images/edits", form)]
    calls += [(f"/sdapi/v1/{name}", text) for name in ("img2img", "options", "png-info", "txt2img/", "interrupt")]
    with api_process(tmp_path, redis_url, auth="on") as api:
        address = ("127.0.0.1", int(api.url.rpartition(":")[2]))
        for path, kind in calls:
            with socket.create_connection(address, timeout=10) as plain:
                head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 99\r\n\r\n"
                plain.sendall(head.encode())
                assert b" 401 " in plain.recv(4096).split(b"\r\n")[0], path


async def test_only_digests_are_stored_and_no_key_is_logged(tmp_path: Path, redis_url: str, connection: Redis) -> None:
    key, record = ApiKeys(connection).create("acme")
    secret = key.rpartition("_")[2]
    with api_process(tmp_path, redis_url, auth="on", log_level="DEBUG") as api:
        assert httpx.get(f"{api.url}/v1/models", headers=bearer(key)).status_code == 200
        assert httpx.get(f"{api.url}/v1/models", headers=bearer(key + "x")).status_code == 401
        assert secret not in api.log_text()
    stored = connection.hget(keys.API_KEYS, record.id)
    assert isinstance(stored, bytes) and secret.encode() not in stored


@pytest.mark.parametrize("tenant", ["", "a b", "-a", "x" * 65, "ä", "a\nb"])
def test_a_tenants_name_is_plain(known: ApiKeys, tenant: str) -> None:
    with pytest.raises(InvalidField, match="tenant"):
        known.create(tenant)


def test_a_key_has_scopes_that_exist(known: ApiKeys) -> None:
    with pytest.raises(InvalidField, match="everything"):
        known.create("acme", ["everything"])  # type: ignore[list-item]  # on purpose
    with pytest.raises(InvalidField, match="scope"):
        known.create("acme", [])
    assert known.list() == []


# ---- calls a minute


async def test_calls_beyond_the_limit_are_told_when_to_come_again(settings: ApiSettings, known: ApiKeys) -> None:
    limited = settings.model_copy(update={"auth": "on", "calls_per_minute": 3})
    mine, yours = known.create("acme")[0], known.create("rival")[0]
    async with serve(limited) as client:
        for attempt in range(2):  # a minute can end in between
            answers = [await client.get("/v1/schedulers", headers=bearer(mine)) for _ in range(4)]
            if [answer.status_code for answer in answers] == [200, 200, 200, 429]:
                break
            assert not attempt, answers
        assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
        refused = answers[-1]
        assert refused.json()["code"] == "rate_limited"
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.headers["RateLimit-Reset"] == refused.headers["Retry-After"]
        assert (await client.get("/v1/schedulers", headers=bearer(yours))).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_without_a_limit_nothing_is_counted(client: httpx.AsyncClient, connection: Redis) -> None:
    answer = await client.get("/v1/schedulers")
    assert "RateLimit-Limit" not in answer.headers
    assert not connection.keys("infill:calls*")


# ---- where it listens


@pytest.mark.parametrize(
    ("host", "auth", "asks"),
    [
        ("127.0.0.1", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),
        ("::", "auto", True),
        ("10.0.0.1", "auto", True),
        ("infill.example", "auto", True),
        ("0.0.0.0", "off", False),
        ("127.0.0.1", "on", True),
    ],
)
def test_keys_are_asked_for_where_others_can_reach_the_service(host: str, auth: str, asks: bool) -> None:
    assert ApiSettings.model_validate({"host": host, "auth": auth}).asks_for_keys is asks


def start(redis_url: str, **settings: str) -> subprocess.CompletedProcess[str]:
    values = {"INFILL_REDIS_URL": redis_url, "INFILL_HOST": "0.0.0.0", "INFILL_PORT": str(free_port())} | settings
    return subprocess.run(
        [sys.executable, "-m", "app"], env=values, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )


def test_without_keys_the_api_does_not_start_where_others_can_reach_it(redis_url: str) -> None:
    ended = start(redis_url)
    assert ended.returncode == 1
    assert "INFILL_AUTH=off" in ended.stderr and "infill keys create" in ended.stderr and "0.0.0.0" in ended.stderr


async def test_a_server_that_another_program_lets_listen_elsewhere_is_not_open(settings: ApiSettings) -> None:
    """uvicorn's own --host: the settings still say loopback."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1:8000") as client:
        answer = await client.get("/v1/schedulers")
        assert answer.status_code == 401
        assert answer.json()["detail"].endswith("its own machine only. Ask its operator for access.")
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        assert (await client.get("/v1/schedulers")).status_code == 200
