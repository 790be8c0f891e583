"""The seam of other clients' APIs: a file that translates, with errors of its own shape, on the same submission."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from app import submission
from app.authentication import Caller
from app.backend import BackendDep
from app.main import create_app
from app.problems import Problem
from app.settings import ApiSettings
from app.submission import Submission, Wait, submit_and_wait
from app.submission_route import SubmissionRoute
from jobs.schema import InpaintRequest
from tests.app.metrics import metrics_of, value
from tests.app.pictures import box_mask, photo
from tests.app.serving import shared_sandbox
from tests.app.settling import Settler
from tests.factories import encoded

pytestmark = pytest.mark.anyio


class LoudRoute(SubmissionRoute):
    """Errors as {"oh": {"no": ..., "why": ...}}."""

    @staticmethod
    def render(problem: Problem, headers: dict[str, str]) -> Response:  # type: ignore[override]  # a ClassVar there
        return JSONResponse({"oh": {"no": problem.code, "why": problem.detail}}, problem.status, headers)


router = APIRouter(prefix="/loud", route_class=LoudRoute)


@router.post("/edit")
async def edit(
    request: Request,
    backend: BackendDep,
    caller: Caller,
    picture: Annotated[UploadFile, File()],
    hole: Annotated[UploadFile, File()],
    words: Annotated[str, Form()] = "",
    model: Annotated[str | None, Form()] = None,
) -> dict[str, Any]:
    asked = InpaintRequest(prompt=words, model=model)
    files = {"image": picture.file, "mask": hole.file}
    made = Submission(asked, files, caller, asked.model_dump(exclude_unset=True))  # type: ignore[arg-type]
    answer = await submit_and_wait(backend, made, Wait(0.2, request.is_disconnected))
    assert answer.view
    return {"id": answer.submitted.job_id, "state": answer.view.status}


@pytest.fixture
async def loud(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, shared_sandbox())
    app.include_router(router)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", timeout=20) as client:
            yield client


def pair(hole: bytes | None = None) -> dict[str, Any]:
    return {"picture": io.BytesIO(encoded(photo())), "hole": io.BytesIO(hole or encoded(box_mask()))}


async def test_a_dialect_makes_the_same_jobs(loud: httpx.AsyncClient, settler: Settler) -> None:
    answer = await loud.post("/loud/edit", files=pair(), data={"words": "a bench"})
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    job = (await loud.get(f"/v1/jobs/{answer.json()['id']}")).json()
    assert job["status"] == "queued" and job["mask"]["bbox"]
    assert settler.queue.store.inputs(job["id"])["image"] == encoded(photo())
    assert value(await metrics_of(loud), "infill_jobs_submitted_total", model="pocket") == 1


async def test_its_refusals_have_its_shape_and_are_counted(loud: httpx.AsyncClient) -> None:
    answer = await loud.post("/loud/edit", files=pair(b"no picture"))
    assert (answer.status_code, answer.json()["oh"]["no"]) == (422, "invalid_mask")
    answer = await loud.post("/loud/edit", files=pair(), data={"model": "nobodys"})
    assert (answer.status_code, answer.json()["oh"]["no"]) == (404, "unknown_model")
    answer = await loud.post("/loud/edit", files={"picture": io.BytesIO(b"")})
    assert (answer.status_code, answer.json()["oh"]["no"]) == (422, "invalid_field")
    counted = await metrics_of(loud)
    for code in ("invalid_mask", "unknown_model", "invalid_field"):
        assert value(counted, "infill_jobs_refused_total", code=code) == 1


async def test_the_native_routes_beside_it_keep_theirs(loud: httpx.AsyncClient) -> None:
    answer = await loud.post("/v1/inpaint", files={"image": io.BytesIO(b"x")})
    assert answer.headers["Content-Type"] == "application/problem+json"
    answer = await loud.get("/loud/nothing")
    assert answer.json()["code"] == "not_found"


def test_what_submits_knows_no_http() -> None:
    """Neither FastAPI nor Starlette is named in the file that every dialect calls."""
    text = Path(submission.__file__).read_text()
    assert "fastapi" not in text and "starlette" not in text
