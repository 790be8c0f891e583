"""Two API replicas behind nginx, two workers: any replica answers for any job, and what dies takes nothing along."""

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.e2e.nginx import Nginx
from tests.e2e.stack import MASK, PHOTO, Stack, has_ended, submit, wait_for
from tests.factories import multipart
from tests.programs import program
from tests.redis_server import RedisServer

CHEAP: dict[str, Any] = {"num_inference_steps": 1}
LONG: dict[str, Any] = {"num_inference_steps": 200, "crop": "off"}


@pytest.fixture(scope="module", autouse=True)
def needs() -> None:
    """Known before anything is started."""
    program("nginx")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("balanced")
    with RedisServer(folder / "redis", append_only=True) as server, Stack(server.url, folder) as made:
        for index in range(2):
            made.start_worker(INFILL_WORKER_NAME=f"w{index}")
            made.start_api()
        made.wait_until_up()
        made.wait_for_workers(2, timeout_s=240)
        yield made


@pytest.fixture(scope="module")
def nginx(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("nginx"), stack.urls)
    made.start()
    yield made
    made.end()


@pytest.fixture
def client(nginx: Nginx) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=nginx.url, timeout=90, trust_env=False) as made:
        yield made


@dataclass
class Load:
    """What callers saw who submitted, polled and fetched through nginx, over and over."""

    accepted: list[str] = field(default_factory=list)
    """Ids of the jobs that got a 202."""
    failed: list[tuple[str, float, float, str]] = field(default_factory=list)
    """Method, begin, end and answer of each call that failed."""
    polls: int = 0

    def call(self, method: str, do: Callable[[], httpx.Response]) -> httpx.Response | None:
        began = time.monotonic()
        try:
            response = do()
        except httpx.TransportError as error:
            self.failed.append((method, began, time.monotonic(), repr(error)))
            return None
        if not response.is_success:
            self.failed.append((method, began, time.monotonic(), response.text))
            return None
        return response

    def run(self, url: str, stop: threading.Event, patient: bool) -> None:
        """Submit, poll until the job has ended (or ten times), and again."""
        with httpx.Client(base_url=url, timeout=90, trust_env=False) as client:
            while not stop.is_set():
                answer = self.call("POST", lambda: submit(client, **CHEAP))
                if answer is not None:
                    self.accepted.append(answer.json()["id"])
                    self.poll(client, answer.json()["id"], stop, 1_000_000 if patient else 10)

    def poll(self, client: httpx.Client, job_id: str, stop: threading.Event, times: int) -> None:
        for _ in range(times):
            view = self.call("GET", lambda: client.get(f"/v1/jobs/{job_id}"))
            self.polls += 1
            if stop.is_set() or (view is not None and has_ended(view.json())):
                return
            time.sleep(0.1)


@contextmanager
def load(url: str, callers: int, *, patient: bool) -> Iterator[Load]:
    """Callers at work while the block runs; they end with it."""
    made, stop = Load(), threading.Event()
    threads = [threading.Thread(target=made.run, args=(url, stop, patient)) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        stop.set()
        for thread in threads:
            thread.join(90)


def test_the_file_is_valid(nginx: Nginx) -> None:
    checked = nginx.check()
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


def test_both_workers_are_listed_with_what_they_have(client: httpx.Client) -> None:
    workers = client.get("/v1/workers").json()["workers"]
    assert [(worker["name"], worker["models"]) for worker in workers] == [("w0", ["pocket"]), ("w1", ["pocket"])]
    for worker in workers:
        assert worker["seats"] == 8
        assert (worker["device_memory_bytes"] > 0) == (worker["device"] != "cpu")
        age = datetime.now(UTC) - datetime.fromisoformat(worker["last_beat_at"])
        assert 0 <= age.total_seconds() < 10


def test_a_job_submitted_on_one_replica_is_polled_on_the_other(stack: Stack, client: httpx.Client) -> None:
    calls_before = [process.log.read_text().count('"request"') for process in stack.apis]
    job_id = submit(client, **CHEAP).json()["id"]
    for _ in range(4):
        assert client.get(f"/v1/jobs/{job_id}").json()["id"] == job_id
    assert wait_for(client, job_id)["status"] == "succeeded"
    image = client.get(f"/v1/jobs/{job_id}/images/0")
    assert image.is_success and image.content.startswith(b"\x89PNG")
    calls = [process.log.read_text().count('"request"') for process in stack.apis]
    assert all(after - before >= 2 for before, after in zip(calls_before, calls, strict=True))


def test_events_pass_through_as_they_happen(client: httpx.Client) -> None:
    job_id = submit(client, num_inference_steps=30).json()["id"]
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        lines = response.iter_lines()
        arrivals = [(time.monotonic(), json.loads(line[6:])["status"]) for line in lines if line.startswith("data: ")]
    assert arrivals[0][1] in ("queued", "running") and arrivals[-1][1] == "succeeded"
    assert len({round(at, 1) for at, _ in arrivals}) > 2, "they did not come all at once"


def test_a_callers_request_id_reaches_the_api_and_comes_back(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert len(client.get("/healthz", headers={"X-Request-ID": 'no"good'}).headers["x-request-id"]) == 32


def test_what_is_too_large_is_a_problem_whoever_refuses_it(nginx: Nginx) -> None:
    """A little too much for the API is answered by the API; far too much by nginx, before anything is sent."""
    connection = http.client.HTTPConnection(nginx.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/v1/inpaint")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(120 * 2**20))
    connection.endheaders()
    response = connection.getresponse()
    problem = json.loads(response.read())
    connection.close()
    assert (response.status, problem["code"], problem["status"]) == (413, "too_large", 413)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == response.headers["x-request-id"]


def test_calls_beyond_the_rate_are_refused_by_nginx(client: httpx.Client) -> None:
    answers = [client.get("/healthz") for _ in range(600)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(429, "too_many_requests")}
    assert refused[0].headers["content-type"] == "application/problem+json" and refused[0].headers["retry-after"] == "1"
    time.sleep(5)  # the later tests' calls


def test_metrics_are_not_for_callers(client: httpx.Client) -> None:
    assert client.get("/metrics").status_code == 403


def test_a_replica_killed_under_load_fails_only_the_calls_it_was_answering(
    stack: Stack, nginx: Nginx, client: httpx.Client
) -> None:
    held: dict[str, httpx.Response] = {}

    def hold(key: str) -> None:
        with httpx.Client(base_url=nginx.url, timeout=90, trust_env=False) as caller:
            headers = {"Prefer": "wait=10", "Idempotency-Key": key}
            held[key] = submit(caller, headers, seed=1, **LONG)

    holding = [threading.Thread(target=hold, args=(key,)) for key in ("one", "two")]
    for thread in holding:  # one call on each replica
        thread.start()
        time.sleep(0.5)
    try:
        with load(nginx.url, callers=3, patient=False) as seen:
            time.sleep(2)
            killed_at = time.monotonic()
            stack.apis[0].send(signal.SIGKILL)
            stack.apis[0].popen.wait()
            dead_at = time.monotonic()
            time.sleep(3)
            accepted_by_then = len(seen.accepted)
            time.sleep(2)
        for thread in holding:
            thread.join(90)
        assert len(seen.accepted) > accepted_by_then > 0, "the other replica went on"
        assert seen.polls > 5
        for method, began, end, answer in seen.failed:
            assert began <= dead_at and end >= killed_at, "a call that the dead replica was not answering failed"
            if "peer closed connection" in answer:  # within the answer, whose beginning nginx had passed on
                continue
            assert method != "GET", "nginx asks the other replica"
            assert json.loads(answer)["code"] == "unavailable"
        broken, whole = sorted(held.items(), key=lambda item: item[1].status_code != 502)
        assert broken[1].status_code == 502 and whole[1].status_code in (200, 202)
        assert broken[1].json()["code"] == "unavailable" and broken[1].headers["retry-after"] == "1"
        again = submit(client, {"Idempotency-Key": broken[0]}, seed=1, **LONG)
        assert again.json()["id"] != whole[1].json()["id"]
        assert again.json()["status"] in ("queued", "running", "succeeded"), "the job of the broken call went on"
        for response in (again, whole[1]):
            client.delete(response.headers["location"])
        assert {wait_for(client, job_id)["status"] for job_id in seen.accepted} == {"succeeded"}
    finally:
        stack.apis[0].send(signal.SIGKILL)
        stack.restart_api(0)
        stack.wait_until_up()


def test_a_caller_who_leaves_nginx_leaves_the_api_too(stack: Stack, nginx: Nginx, client: httpx.Client) -> None:
    """Its job is canceled where it asked for that, though nginx' own connection to the API is another one."""
    before = at_work(stack)
    files = multipart(PHOTO.read_bytes(), MASK.read_bytes())
    data = {name: str(value) for name, value in LONG.items()} | {"on_disconnect": "cancel"}
    request = client.build_request("POST", "/v1/inpaint", files=files, data=data, headers={"Prefer": "wait=60"})
    caller = http.client.HTTPConnection(nginx.url.removeprefix("http://"))
    caller.request("POST", "/v1/inpaint", request.read(), dict(request.headers))
    deadline = time.monotonic() + 30
    while not (begun := at_work(stack) - before):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    caller.close()
    (job_id,) = begun
    assert wait_for(client, job_id, timeout_s=20)["status"] == "canceled"


def at_work(stack: Stack) -> set[str]:
    return {job_id for jobs in stack.jobs_at_work().values() for job_id in jobs}


def test_a_rolling_restart_of_all_workers_under_load_fails_no_request(
    stack: Stack, nginx: Nginx, client: httpx.Client
) -> None:
    leaving = stack.workers[:2]
    with load(nginx.url, callers=2, patient=True) as seen:
        for index, old in enumerate(leaving):
            stack.start_worker(INFILL_WORKER_NAME=f"next-{index}")
            stack.wait_for_workers(3, timeout_s=240)
            old.send(signal.SIGTERM)
            assert old.popen.wait(90) == 0
            stack.wait_for_workers(2)
    assert not seen.failed
    jobs = [wait_for(client, job_id) for job_id in seen.accepted]
    assert len(jobs) > 10
    assert {job["status"] for job in jobs} == {"succeeded"}
    assert {job["attempt"] for job in jobs} == {1}
    assert {worker["name"] for worker in client.get("/v1/workers").json()["workers"]} == {"next-0", "next-1"}
