"""What only a real server process can show: limits on the wire, streams, lost clients, signals, logs."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from redis import Redis

from app.main import create_app
from app.settings import ApiSettings
from jobs.errors import BadModel
from tests.app.pictures import photo
from tests.app.processes import ROOT, ApiProcess, api_process
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files
from tests.factories import encoded


def test_importing_the_app_loads_no_torch_and_no_worker() -> None:
    code = (
        "import sys, app.main; app.main.create_app();"
        "print([name for name in ('torch', 'diffusers', 'transformers', 'worker') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("size", [5_000_000, 40_000_000])
def test_a_body_beyond_the_limit_is_answered_413_without_reading_it_all(api: ApiProcess, size: int) -> None:
    response = httpx.post(f"{api.url}/v1/inpaint", files=files(b"x" * size))
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_chunked_body_beyond_the_limit_is_answered_413(api: ApiProcess) -> None:
    request = httpx.Request("POST", f"{api.url}/v1/inpaint", files=files(b"x" * 5_000_000))
    body = request.read()
    headers = {"content-type": request.headers["content-type"]}
    chunks = (body[k : k + 65_536] for k in range(0, len(body), 65_536))
    response = httpx.post(f"{api.url}/v1/inpaint", content=chunks, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_events_arrive_one_by_one_as_they_happen(api: ApiProcess, settler: Settler) -> None:
    job_id = httpx.post(f"{api.url}/v1/inpaint", files=files()).json()["id"]
    statuses: list[str] = []
    with httpx.stream("GET", f"{api.url}/v1/jobs/{job_id}/events", timeout=10) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        for line in response.iter_lines():
            if line.startswith("data: "):
                statuses.append(json.loads(line[6:])["status"])
                if statuses == ["queued"]:  # the first one is here while the job still waits
                    settler.start(job_id)
                    settler.succeed(job_id, [b"image"])
    assert statuses[0] == "queued"
    assert statuses[-1] == "succeeded"


def test_a_body_that_breaks_off_leaves_nothing_behind(api: ApiProcess, settler: Settler) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/inpaint HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
    time.sleep(0.3)
    assert httpx.get(f"{api.url}/healthz").status_code == 200
    assert settler.queue.connection.dbsize() == 0


def test_on_sigterm_held_calls_are_answered_at_once_and_the_process_exits_0(redis_url: str, tmp_path: Path) -> None:
    with api_process(tmp_path, redis_url) as api:
        answers: list[httpx.Response] = []

        def wait() -> None:
            answers.append(
                httpx.post(f"{api.url}/v1/inpaint", files=files(), headers={"Prefer": "wait=50"}, timeout=60)
            )

        waiting = threading.Thread(target=wait)
        waiting.start()
        settler = Settler.connect(_connect(redis_url), ApiSettings(redis_url=redis_url))
        while not settler.queue.depth():
            time.sleep(0.02)
        time.sleep(0.2)
        began = time.monotonic()
        api.signal(signal.SIGTERM)
        waiting.join(10)
        assert api.process.wait(10) == 0
        assert time.monotonic() - began < 5
    assert (answers[0].status_code, answers[0].json()["status"]) == (202, "queued")


def test_logs_are_json_lines_with_ids_and_without_prompts(api: ApiProcess) -> None:
    secret = "a very private prompt"
    headers = {"X-Request-ID": "trace-1"}
    response = httpx.post(f"{api.url}/v1/inpaint", files=files(), data={"prompt": secret}, headers=headers)
    httpx.post(f"{api.url}/v1/inpaint", files=files(), data={"prompt": secret, "seed": secret})
    httpx.post(f"{api.url}/v1/inpaint", files=files(encoded(photo())[:500]), data={"prompt": secret})
    httpx.post(f"{api.url}/v1/inpaint", content=secret, headers={"content-type": "multipart/form-data; boundary=x"})
    httpx.get(f"{api.url}/nothing?{secret}", headers={"X-Request-ID": "trace-2"})
    while "trace-2" not in api.log_text():
        time.sleep(0.02)
    lines = [json.loads(line) for line in api.log_text().splitlines()]
    line = next(line for line in lines if line.get("request_id") == "trace-1")
    assert line["event"] == "request"
    assert line["job_id"] == response.json()["id"]
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/inpaint", 202)
    assert secret not in api.log_text()


@pytest.mark.anyio
async def test_two_replicas_serve_one_queue(api: ApiProcess, settings: ApiSettings) -> None:
    async with serve(settings) as here, httpx.AsyncClient(base_url=api.url) as there:
        job_id = (await there.post("/v1/inpaint", files=files())).json()["id"]
        assert (await here.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued"
        assert (await here.delete(f"/v1/jobs/{job_id}")).json()["status"] == "canceled"
        assert (await there.get(f"/v1/jobs/{job_id}")).json()["status"] == "canceled"


def test_a_catalog_that_cannot_be_used_stops_the_start_with_its_name() -> None:
    with pytest.raises(BadModel, match=r"missing\.toml"):
        create_app(ApiSettings(catalog="missing.toml"))


def _connect(url: str) -> Redis:
    return Redis.from_url(url)
