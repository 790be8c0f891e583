"""What a client says and hears, without a connection: a flow yields calls and pauses, and is sent the answers.

``Client`` and ``AsyncClient`` run the same flows, each with its own kind of connection.
"""

import json
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from infill_client.errors import JobEnded, NoAnswer, Problem, TimedOut
from infill_client.records import FoundMask, Job, JobSummary, Result, job_of

T = TypeVar("T")

RETRIED = (429, 502, 503)
"""Statuses after which the same call may succeed later: docs/api.md."""
TRIES = 6
LONGEST_PAUSE_S = 30.0
LONGEST_CALL_S = 25
"""Of a call that waits for a job's end; below the minute after which many proxies cut a call off."""
POLL_S = 0.3


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    seconds: float


Flow = Generator[Call | Pause, Any, T]
"""Is sent the answer to each Call, or the ``httpx.TransportError`` that there is instead; to each Pause, the seconds
since the flow began."""


def ask(call: Call) -> Flow[httpx.Response]:
    """One call, tried again while the service is busy or away. All calls of this package may be repeated.

    Raises NoAnswer, Problem.
    """
    for attempt in range(1, TRIES + 1):
        answer: httpx.Response | httpx.TransportError = yield call
        if isinstance(answer, httpx.Response) and answer.is_success:
            return answer
        if isinstance(answer, httpx.TransportError):
            error: NoAnswer | Problem = NoAnswer(f"{call.method} {call.path} got no answer: {answer!r}.")
            pause_s = 2.0 ** (attempt - 3)
        else:
            error = problem_of(answer)
            pause_s = 2.0 ** (attempt - 3) if error.retry_after_s is None else error.retry_after_s
            if answer.status_code not in RETRIED:
                raise error
        if attempt == TRIES or pause_s > LONGEST_PAUSE_S:
            raise error
        yield Pause(pause_s)
    raise AssertionError("unreachable")


def problem_of(answer: httpx.Response) -> Problem:
    """From ``application/problem+json``; what a proxy says instead is named by its status."""
    try:
        told = answer.json()
        code, detail = str(told["code"]), str(told["detail"])
    except (ValueError, LookupError, TypeError):
        code, detail = "no_problem_json", f"HTTP {answer.status_code} {answer.reason_phrase}, not from the service."
    after = answer.headers.get("retry-after", "")
    return Problem(answer.status_code, code, detail, float(after) if after.isdecimal() else None)


def submit(files: Mapping[str, bytes], fields: Mapping[str, Any], wait_s: float = 0, key: str = "") -> Flow[Job]:
    """Make a job. A repeated call makes no second one."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    if wait_s >= 1:
        headers["Prefer"] = f"wait={min(int(wait_s), LONGEST_CALL_S)}"
    data = {name: text_of(value) for name, value in fields.items() if value is not None}
    named = {name: (name, content) for name, content in files.items()}
    answer = yield from ask(Call("POST", "/v1/inpaint", {"files": named, "data": data}, headers))
    return job_of(answer)


def mask(image: bytes, fields: Mapping[str, Any]) -> Flow[FoundMask]:
    """The mask of a subject: ``POST /v1/masks``."""
    data = {name: text_of(value) for name, value in fields.items() if value is not None}
    answer = yield from ask(Call("POST", "/v1/masks", {"files": {"image": ("image", image)}, "data": data}))
    told = answer.headers
    left, top, right, bottom = (int(side) for side in told["infill-mask-box"].split(","))
    return FoundMask(answer.content, float(told["infill-mask-score"]), (left, top, right, bottom))


def text_of(value: Any) -> str:
    """A field of the form: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def look(job_id: str, wait_s: float = 0) -> Flow[Job]:
    headers = {"Prefer": f"wait={min(int(wait_s), LONGEST_CALL_S)}"} if wait_s >= 1 else {}
    answer = yield from ask(Call("GET", f"/v1/jobs/{job_id}", headers=headers))
    return job_of(answer)


def wait(job: Job, timeout_s: float) -> Flow[Job]:
    """Until the job has ended. Raises TimedOut."""
    waited_s: float = yield Pause(0)
    limit_s = waited_s + timeout_s
    while not job.ended:
        if waited_s >= limit_s:
            raise TimedOut(job, timeout_s)
        job = yield from look(job.id, limit_s - waited_s)
        waited_s = yield Pause(0 if job.ended else POLL_S)
    return job


def result(job: Job) -> Flow[Result]:
    """The images of a job that has ended. Raises JobEnded for one without."""
    if job.status != "succeeded":
        raise JobEnded(job)
    images = []
    root_path = job.url.removesuffix(f"/v1/jobs/{job.id}")  # the client's own address has it already
    for image in job.images:
        answer = yield from ask(Call("GET", image.url.removeprefix(root_path)))
        images.append(answer.content)
    return Result(job, tuple(images))


def edit(files: Mapping[str, bytes], fields: Mapping[str, Any], timeout_s: float, key: str = "") -> Flow[Result]:
    """Submit, wait, fetch."""
    job = yield from submit(files, fields, timeout_s, key)
    job = yield from wait(job, timeout_s)
    return (yield from result(job))


def cancel(job_id: str) -> Flow[Job]:
    return job_of((yield from ask(Call("DELETE", f"/v1/jobs/{job_id}"))))


def page(cursor: str | None, status: str | None, limit: int) -> Flow[tuple[list[JobSummary], str | None]]:
    """Jobs of the key's tenant, newest first, and the cursor of the next page."""
    query = {"limit": limit} | ({"cursor": cursor} if cursor else {}) | ({"status": status} if status else {})
    found = (yield from ask(Call("GET", "/v1/jobs", {"params": query}))).json()
    return [JobSummary.model_validate(job) for job in found["jobs"]], found["next"]


def listed(path: str, name: str) -> Flow[Sequence[dict[str, Any]]]:
    answer = yield from ask(Call("GET", path))
    found: Sequence[dict[str, Any]] = answer.json()[name]
    return found
