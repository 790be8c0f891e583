"""Models that paint in one call, over HTTP: what is refused, what jobs say, what clients of other APIs may send."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from app.settings import ApiSettings
from jobs.feedforward import UNUSED
from tests.app.next_jobs import end_next, next_job
from tests.app.pictures import box_mask, photo
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.app.submissions import files, submit
from tests.app.tiny_catalog import CATALOG
from tests.factories import encoded

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    file = tmp_path / "catalog.toml"
    file.write_text(CATALOG)
    return ApiSettings(redis_url=redis_url, catalog=str(file), max_wait_s=1)


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


async def test_a_job_says_which_model_runs_and_whose_place_it_takes(client: httpx.AsyncClient) -> None:
    said = {}
    requests: list[dict[str, Any]] = [
        {"task": "remove"},
        {"task": "remove", "model": "first"},
        {"model": "lama", "seed": "5"},
        {},
    ]
    for asked in requests:
        job = (await submit(client, **asked)).json()
        said[str(asked)] = (job["model"], job["instead_of"], job["uses_seeds"], job["progress"]["steps"])
    assert list(said.values()) == [
        ("lama", "first", False, 1),
        ("first", None, True, 30),
        ("lama", None, False, 1),
        ("first", None, True, 30),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "sand"),
        ("negative_prompt", "people"),
        ("num_inference_steps", "8"),
        ("guidance_scale", "2"),
        ("strength", "0.5"),
        ("scheduler", "ddim"),
        ("masked_content", "fill"),
        ("cache_interval", "2"),
        ("loras", '[{"name": "ink"}]'),
        ("n", "2"),
        ("preset", "fast"),
    ],
)
async def test_what_does_nothing_is_refused_by_name(client: httpx.AsyncClient, field: str, value: str) -> None:
    for asked in ("model", "lama"), ("task", "remove"):
        answer = await submit(client, **dict([asked, (field, value)]))  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field"), answer.text
        assert answer.json()["detail"].startswith(f"{field}: ")


async def test_a_mask_of_the_whole_picture_is_refused(client: httpx.AsyncClient) -> None:
    whole = encoded(box_mask(box=(0, 0, *photo().size)))
    answer = await client.post("/v1/inpaint", files=files(mask=whole), data={"model": "lama"})
    assert (answer.status_code, answer.json()["code"]) == (422, "no_surroundings")


async def test_the_list_of_models_says_what_each_does_nothing_with_and_no_operators_word(
    client: httpx.AsyncClient,
) -> None:
    first, lama = (await client.get("/v1/models")).json()["models"]
    assert (first["unused_fields"], lama["unused_fields"]) == ([], list(UNUSED))
    assert (lama["schedulers"], lama["max_n"], lama["tasks"]["remove"]["mask_grow"]) == (["none"], 1, 8)
    assert "convention" not in lama and first["tasks"]["remove"]["model"] == "lama"


async def test_openais_clients_always_send_a_prompt_which_is_ignored_and_named(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    for asked, ignored in (({"model": "lama"}, "prompt"), ({"task": "remove"}, "prompt"), ({}, None)):
        answers: list[httpx.Response] = []

        async def post(data: dict[str, str], answers: list[httpx.Response] = answers) -> None:
            answers.append(await client.post("/v1/images/edits", data=data, files=files()))

        async with anyio.create_task_group() as group:
            group.start_soon(post, {"prompt": "a bench", **asked})
            parameters = settler.queue.job(await next_job(settler)).kwargs
            await end_next(settler)
        assert parameters["prompt"] == ("" if ignored else "a bench")
        assert (answers[0].status_code, answers[0].headers.get("Infill-Ignored")) == (200, ignored), answers[0].text


async def test_the_web_uis_clients_send_steps_and_more_of_which_the_answer_says_that_they_did_nothing(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    body = {
        "init_images": [base64.b64encode(encoded(photo())).decode()],
        "mask": base64.b64encode(encoded(box_mask())).decode(),
        "prompt": "a bench",
        "steps": 20,
        "override_settings": {"sd_model_checkpoint": "lama"},
    }
    answer = await client.post("/sdapi/v1/img2img", json=body)  # nobody runs it
    assert answer.status_code == 504, answer.text
    parameters = settler.queue.job(await next_job(settler)).kwargs
    assert (parameters["model"], parameters["prompt"], parameters["num_inference_steps"]) == ("lama", "", 1)
    refused = await client.post("/sdapi/v1/img2img", json=body | {"prompt": "<lora:ink:1>"})
    assert refused.status_code == 422 and "prompt: model 'lama'" in refused.text  # of its adapters
