"""Routes of the web UI's API: the shape of their errors, and their JSON bodies."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from app.json_bodies import JsonBody, read_json
from app.problems import Problem
from app.submission_route import RenderedRoute, SubmissionRoute
from jobs.errors import InvalidField

NAMES = {
    "n": "batch_size, n_iter",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "strength": "denoising_strength",
    "loras": "prompt",
    "image": "init_images",
}
"""Of our fields, in the words of img2img."""
_NAMED = re.compile(r"[a-z_]+(?:, [a-z_]+)*(?=: )")
"""The fields that a sentence is about."""


class A1111Route(RenderedRoute):
    """Errors as the web UI's API has them; ``code`` is ours. A key is asked for as HTTP Basic."""

    @staticmethod
    def render(problem: Problem, headers: dict[str, str]) -> Response:  # type: ignore[override]  # a ClassVar there
        if problem.status == 401:
            headers = headers | {"WWW-Authenticate": 'Basic realm="infill"'}
        told = {"error": problem.title, "detail": problem.detail, "body": "", "errors": problem.detail}
        return JSONResponse(told | {"code": problem.code}, problem.status, headers)


class Img2ImgRoute(A1111Route, SubmissionRoute):
    """The one that makes jobs. Its errors name the fields as its callers do."""

    @staticmethod
    def render(problem: Problem, headers: dict[str, str]) -> Response:  # type: ignore[override]  # a ClassVar there
        detail = _NAMED.sub(lambda found: _in_its_words(found.group()), problem.detail, count=1)
        return A1111Route.render(problem.model_copy(update={"detail": detail}), headers)


def _in_its_words(names: str) -> str:
    return ", ".join(NAMES.get(name, name) for name in names.split(", "))


@asynccontextmanager
async def json_object(request: Request) -> AsyncIterator[JsonBody]:
    """The body, whose ``value`` is an object; its long texts are there within the block.

    Raises InvalidField, and what ``app.json_bodies.read_json`` does.
    """
    body = await read_json(request)
    try:
        if not isinstance(body.value, dict):
            raise InvalidField("body: This must be a JSON object.")
        yield body
    finally:
        with anyio.CancelScope(shield=True):
            await body.close()
