"""The client, synchronous and asynchronous: the same methods, of the same flows."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import anyio
import httpx
from httpx_sse import ServerSentEvent, aconnect_sse, connect_sse

from infill_client import flows
from infill_client.errors import NoAnswer
from infill_client.flows import Call, Flow, Pause
from infill_client.records import FoundMask, Job, JobSummary, Result, Status

T = TypeVar("T")

Picture = str | Path | bytes | BinaryIO
"""A file's path, its content, or an open file."""

TIMEOUT_S = 300.0
"""What a job may take, waiting included, if the caller says nothing."""
CALL_TIMEOUT = httpx.Timeout(60, connect=10)


class Client:
    """Calls the service at ``url``. A call that meets a busy service or a broken connection is tried again, up to six
    times, and makes no second job.

    Args:
        url: where the service is, with its sub-path if it has one.
        api_key: sent as a bearer token.
        transport: of httpx; for tests and proxies. None: a connection, past the proxies of the environment.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", api_key: str | None = None, *, transport: Any = None
    ) -> None:
        self._http = httpx.Client(**_options(url, api_key), transport=transport)

    def edit(
        self,
        image: Picture | None = None,
        mask: Picture | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        idempotency_key: str = "",
        **fields: Any,
    ) -> Result:
        """Repaint what the mask marks, wait, and fetch the images. ``fields``: those of ``POST /v1/inpaint``.

        Raises Problem, JobEnded, TimedOut, NoAnswer.
        """
        return self._run(flows.edit(_files(image, mask), fields, timeout_s, idempotency_key))

    def submit(
        self, image: Picture | None = None, mask: Picture | None = None, *, idempotency_key: str = "", **fields: Any
    ) -> Job:
        """Make a job and return at once. Raises Problem, NoAnswer."""
        return self._run(flows.submit(_files(image, mask), fields, key=idempotency_key))

    def mask(self, image: Picture, **fields: Any) -> FoundMask:
        """Find a subject. ``fields``: ``mask_points``, ``mask_box``, ``mask_subject``. Raises Problem, NoAnswer."""
        return self._run(flows.mask(_files(image, None)["image"], fields))

    def job(self, job_id: str) -> Job:
        """Look at a job. Raises Problem, NoAnswer."""
        return self._run(flows.look(job_id))

    def wait(self, job: Job, timeout_s: float = TIMEOUT_S) -> Job:
        """The job as it has ended. Raises TimedOut, Problem, NoAnswer."""
        return self._run(flows.wait(job, timeout_s))

    def follow(self, job_id: str) -> Iterator[Job]:
        """The job at each change, to its end. A stream that is cut off is taken up again. Raises Problem, NoAnswer."""
        failures = 0
        while failures < flows.TRIES:
            events = connect_sse(self._http, "GET", f"/v1/jobs/{job_id}/events")
            with suppress(httpx.TransportError), events as source:
                if not source.response.is_success:
                    source.response.read()
                    raise flows.problem_of(source.response)
                for event in source.iter_sse():
                    failures = 0
                    yield (job := _job_of(event))
                    if job.ended:
                        return
            failures += 1
            time.sleep(flows.POLL_S)
        raise NoAnswer(f"The events of job {job_id} break off.")

    def result(self, job: Job) -> Result:
        """The images of a job that has succeeded. Raises JobEnded for another, Problem, NoAnswer."""
        return self._run(flows.result(job))

    def cancel(self, job_id: str) -> Job:
        """Raises Problem (``job_already_finished``), NoAnswer."""
        return self._run(flows.cancel(job_id))

    def jobs(self, status: Status | None = None, page_size: int = 100) -> Iterator[JobSummary]:
        """All jobs of the key's tenant, the newest first, page by page. Raises Problem, NoAnswer."""
        cursor: str | None = None
        while True:
            found, cursor = self._run(flows.page(cursor, status, page_size))
            yield from found
            if not cursor:
                return

    def models(self) -> Sequence[dict[str, Any]]:
        return self._run(flows.listed("/v1/models", "models"))

    def loras(self) -> Sequence[dict[str, Any]]:
        return self._run(flows.listed("/v1/loras", "loras"))

    def _run(self, flow: Flow[T]) -> T:
        began = time.monotonic()
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a Flow[T] returns T
            if isinstance(step, Pause):
                self._pause(step.seconds)
                answer = time.monotonic() - began
            else:
                answer = self._ask(step)

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _ask(self, call: Call) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.request(call.method, call.path, headers=call.headers, **call.more)
        except httpx.TransportError as error:
            return error

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """``Client`` with awaitable methods, under asyncio and trio."""

    def __init__(
        self, url: str = "http://127.0.0.1:8000", api_key: str | None = None, *, transport: Any = None
    ) -> None:
        self._http = httpx.AsyncClient(**_options(url, api_key), transport=transport)

    async def edit(
        self,
        image: Picture | None = None,
        mask: Picture | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        idempotency_key: str = "",
        **fields: Any,
    ) -> Result:
        return await self._run(flows.edit(_files(image, mask), fields, timeout_s, idempotency_key))

    async def submit(
        self, image: Picture | None = None, mask: Picture | None = None, *, idempotency_key: str = "", **fields: Any
    ) -> Job:
        return await self._run(flows.submit(_files(image, mask), fields, key=idempotency_key))

    async def mask(self, image: Picture, **fields: Any) -> FoundMask:
        return await self._run(flows.mask(_files(image, None)["image"], fields))

    async def job(self, job_id: str) -> Job:
        return await self._run(flows.look(job_id))

    async def wait(self, job: Job, timeout_s: float = TIMEOUT_S) -> Job:
        return await self._run(flows.wait(job, timeout_s))

    async def follow(self, job_id: str) -> AsyncIterator[Job]:
        failures = 0
        while failures < flows.TRIES:
            with suppress(httpx.TransportError):
                async with aconnect_sse(self._http, "GET", f"/v1/jobs/{job_id}/events") as source:
                    if not source.response.is_success:
                        await source.response.aread()
                        raise flows.problem_of(source.response)
                    async for event in source.aiter_sse():
                        failures = 0
                        yield (job := _job_of(event))
                        if job.ended:
                            return
            failures += 1
            await anyio.sleep(flows.POLL_S)
        raise NoAnswer(f"The events of job {job_id} break off.")

    async def result(self, job: Job) -> Result:
        return await self._run(flows.result(job))

    async def cancel(self, job_id: str) -> Job:
        return await self._run(flows.cancel(job_id))

    async def jobs(self, status: Status | None = None, page_size: int = 100) -> AsyncIterator[JobSummary]:
        cursor: str | None = None
        while True:
            found, cursor = await self._run(flows.page(cursor, status, page_size))
            for job in found:
                yield job
            if not cursor:
                return

    async def models(self) -> Sequence[dict[str, Any]]:
        return await self._run(flows.listed("/v1/models", "models"))

    async def loras(self) -> Sequence[dict[str, Any]]:
        return await self._run(flows.listed("/v1/loras", "loras"))

    async def _run(self, flow: Flow[T]) -> T:
        began = anyio.current_time()
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, Pause):
                await anyio.sleep(step.seconds)
                answer = anyio.current_time() - began
            else:
                answer = await self._ask(step)

    async def _ask(self, call: Call) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.request(call.method, call.path, headers=call.headers, **call.more)
        except httpx.TransportError as error:
            return error

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _options(url: str, api_key: str | None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return {"base_url": url, "headers": headers, "timeout": CALL_TIMEOUT, "trust_env": False}


def _files(image: Picture | None, mask: Picture | None) -> Mapping[str, bytes]:
    return {name: _content(one) for name, one in (("image", image), ("mask", mask)) if one is not None}


def _content(picture: Picture) -> bytes:
    if isinstance(picture, str | Path):
        return Path(picture).read_bytes()
    return picture if isinstance(picture, bytes) else picture.read()


def _job_of(event: ServerSentEvent) -> Job:
    return Job.model_validate_json(event.data)
