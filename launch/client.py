"""A minimal caller of the API: submit, ask, download."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

from launch.errors import LaunchError

Job = dict[str, Any]
"""The job as the API shows it (JSON)."""


@dataclass(frozen=True)
class Finished:
    """A job that succeeded, and its first image."""

    job: Job
    png: bytes


class Client:
    """Talks to the API at ``url``; every answer that is no success becomes a LaunchError with the API's own words."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def submit(self, photo: bytes, mask: bytes, seed: int) -> str:
        """Send the two pictures; returns the job's id."""
        files = {"image": ("photo.png", photo), "mask": ("mask.png", mask)}
        return str(self._ask("POST", "/v1/inpaint", files=files, data={"seed": str(seed)}).json()["id"])

    def job(self, job_id: str) -> Job:
        job: Job = self._ask("GET", f"/v1/jobs/{job_id}").json()
        return job

    def finished(self, job: Job) -> Finished:
        return Finished(job, self._ask("GET", job["images"][0]["url"]).content)

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise LaunchError(f"{method} {path} got no answer: {error}") from error
        if not response.is_success:
            raise LaunchError(f"{method} {path} was answered {response.status_code}: {response.text}")
        return response
