"""``mask_prompt`` over HTTP: what is refused, what the job is made of, and what its mask is until it is found."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.settings import ApiSettings
from jobs.errors import MaskNotFound
from jobs.queue import parameters_of
from jobs.schema import FindMask, JobProblem
from tests.app.json_body import base64_of
from tests.app.pictures import box_mask, photo
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.factories import encoded

pytestmark = pytest.mark.anyio

MODELS = """
[models.first]
family = "sd"
source = "/models/first"

[models.lama]
family = "feedforward"
source = "/models/lama.pt"
convention = "lama"
allow_pickle = true
"""
SEGMENTER = """
[segmenters.{name}]
network = "clipseg"
source = "/models/clipseg"
"""
PHOTO = {"image": ("a.png", encoded(photo()))}
BOTH = {**PHOTO, "mask": ("m.png", encoded(box_mask()))}


@pytest.fixture(params=[["words"]], ids=lambda names: " and ".join(names) or "no segmenter")
def settings(redis_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> ApiSettings:
    file = tmp_path / "catalog.toml"
    file.write_text(MODELS + "".join(SEGMENTER.format(name=name) for name in request.param))
    return ApiSettings(redis_url=redis_url, catalog=str(file), max_wait_s=1)


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


async def post(client: httpx.AsyncClient, sent: Any = PHOTO, **fields: str) -> httpx.Response:
    return await client.post("/v1/inpaint", files=sent, data=fields)


async def test_the_job_says_what_is_to_be_found_and_its_mask_is_everything_until_then(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    answer = await post(client, mask_prompt="the red car", mask_subject="background")
    job = answer.json()
    assert answer.status_code == 202, job
    said = {"sources": ["prompt"], "prompt": "the red car", "model": "words", "subject": "background"}
    assert {name: job["mask"][name] for name in said} == said and "score" not in job["mask"]
    assert (job["mask"]["coverage"], job["mask"]["bbox"]) == (1, [0, 0, *photo().size])
    assert job["approximate"] == []
    asked = parameters_of(settler.queue.job(job["id"]))
    assert asked.find == FindMask(model="words", prompt="the red car", subject="background") and asked.tiles is None
    mask = settler.queue.store.inputs(job["id"])["mask"]
    assert mask is not None and (np.asarray(Image.open(io.BytesIO(mask))) == 255).all()
    assert settler.queue.store.used_mask(job["id"]) is None
    assert_problem(await client.get(f"{job['url']}/mask"), 409, "job_not_finished")


async def test_json_and_the_task_that_replaces_backgrounds_take_words_too(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    body = {"image": base64_of(encoded(photo())), "mask_prompt": "dog", "mask_model": "words", "prompt": "a beach"}
    answer = await client.post("/v1/inpaint", json=body | {"task": "replace_background"})
    assert answer.status_code == 202, answer.text
    found = parameters_of(settler.queue.job(answer.json()["id"])).find
    assert found == FindMask(model="words", prompt="dog", subject="background")


async def test_a_model_that_paints_from_surroundings_takes_words(
    client: httpx.AsyncClient,
) -> None:
    assert (await post(client, mask_prompt="dog", model="lama")).status_code == 202


REFUSED: dict[str, tuple[Any, dict[str, str], int, str, str]] = {
    "a mask too": (BOTH, {"mask_prompt": "dog"}, 422, "invalid_field", "mask, mask_box, mask_polygon, mask_points: "),
    "a box": (PHOTO, {"mask_prompt": "dog", "mask_box": "[0, 0, 9, 9]"}, 422, "invalid_field", "mask, mask_box"),
    "points": (PHOTO, {"mask_prompt": "dog", "mask_points": "[[1, 1, 1]]"}, 422, "invalid_field", "mask, mask_box"),
    "a mode": (PHOTO, {"mask_prompt": "dog", "mask_mode": "black"}, 422, "invalid_field", "mask_mode: it says how"),
    "long": (PHOTO, {"mask_prompt": "d" * 201}, 422, "invalid_field", "mask_prompt: "),
    "blank": (PHOTO, {"mask_prompt": "  "}, 422, "invalid_field", "mask_prompt: it is blank"),
    "no words": (PHOTO, {"mask_model": "words"}, 422, "invalid_field", "mask_model: it finds what mask_prompt names"),
    "a mask and a segmenter": (BOTH, {"mask_model": "words"}, 422, "invalid_field", "mask_model: it finds"),
    "unknown": (
        *(PHOTO, {"mask_prompt": "dog", "mask_model": "first"}, 404, "unknown_model"),
        "mask_model: there is no segmenter 'first'. Known segmenters: words.",
    ),
    "no painter": (PHOTO, {"mask_prompt": "dog", "model": "words"}, 404, "unknown_model", "There is no model 'words'"),
    "tiles": (PHOTO, {"mask_prompt": "dog", "hires": "tile"}, 422, "invalid_field", "hires: tiles are counted"),
    "an extension": (
        *(PHOTO, {"mask_prompt": "dog", "task": "extend", "aspect": "16:9"}, 422, "invalid_field"),
        "mask_prompt: task=extend repaints the new border",
    ),
    "the foreground": (
        *(PHOTO, {"mask_prompt": "x", "task": "replace_background", "prompt": "x", "mask_subject": "foreground"}, 422),
        *("invalid_field", "mask_subject: task=replace_background"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_contradicts_itself_is_refused_and_makes_no_job(
    client: httpx.AsyncClient, settler: Settler, case: str
) -> None:
    sent, fields, status, code, sentence = REFUSED[case]
    problem = assert_problem(await post(client, sent, **fields), status, code)
    assert problem["detail"].startswith(sentence)
    assert settler.queue.depth() == 0


@pytest.mark.parametrize("settings", [[], ["a", "b"]], indirect=True)
async def test_without_a_segmenter_or_with_several_the_answer_says_what_can_be_sent(
    client: httpx.AsyncClient, settings: ApiSettings
) -> None:
    problem = assert_problem(await post(client, mask_prompt="dog"), 422, "invalid_field")
    several = "[segmenters.b]" in Path(str(settings.catalog)).read_text()
    sentence = "mask_model: say which segmenter is to find mask_prompt: a, b." if several else "has no segmenter"
    assert sentence in problem["detail"]
    if several:
        assert (await post(client, mask_prompt="dog", mask_model="b")).status_code == 202


async def test_a_batch_is_checked_by_the_same_rules(client: httpx.AsyncClient) -> None:
    line = {"custom_id": "1", "image": base64_of(encoded(photo())), "mask_prompt": "dog", "mask_model": "none"}
    answer = await client.post(
        "/v1/batches", content=json.dumps(line), headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.status_code == 422 and "mask_model: there is no segmenter 'none'" in answer.json()["detail"]


async def test_another_prompt_is_another_request(client: httpx.AsyncClient) -> None:
    def call(prompt: str) -> Any:
        headers = {"Idempotency-Key": "k"}
        return client.post("/v1/inpaint", files=PHOTO, data={"mask_prompt": prompt}, headers=headers)

    first, again, other = await call("dog"), await call("dog"), await call("cat")
    assert first.json()["id"] == again.json()["id"]
    assert_problem(other, 422, "idempotency_conflict")


async def test_openais_clients_may_send_words_in_place_of_a_mask(client: httpx.AsyncClient, settler: Settler) -> None:
    fields = {"prompt": "a bus", "mask_prompt": "the car", "model": "first"}
    answer = await client.post("/v1/images/edits", files=PHOTO, data=fields)
    assert answer.status_code == 504, answer.text  # nobody works
    (job_id,) = settler.queue.rq.get_job_ids()
    assert parameters_of(settler.queue.job(job_id)).find == FindMask(model="words", prompt="the car")


async def test_masks_alone_are_not_found_by_words(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/masks", files=PHOTO, data={"mask_prompt": "dog"})
    problem = assert_problem(answer, 422, "unknown_field")
    assert "mask_prompt" in problem["detail"]


async def test_a_job_that_finds_nothing_says_so_in_place_of_its_mask(
    client: httpx.AsyncClient, settler: Settler
) -> None:
    job = (await post(client, mask_prompt="dog")).json()
    settler.start(job["id"])
    settler.fail(job["id"], JobProblem(code=MaskNotFound.code, message="It is found with a score of 0.1."))
    for path in ("mask", "images/0"):
        problem = assert_problem(await client.get(f"{job['url']}/{path}"), 422, "mask_not_found")
        assert "score of 0.1" in problem["detail"]


async def test_a_canceled_job_has_no_mask(client: httpx.AsyncClient) -> None:
    job = (await post(client, mask_prompt="dog")).json()
    await client.delete(job["url"])
    assert_problem(await client.get(f"{job['url']}/mask"), 409, "job_canceled")


async def test_a_segmenter_is_listed_and_missed_where_no_worker_serves_it(client: httpx.AsyncClient) -> None:
    (segmenter,) = (await client.get("/v1/models")).json()["segmenters"]
    assert segmenter == {
        **{"name": "words", "network": "clipseg", "description": "", "least_score": 0.6},
        **{"workers": [], "loaded_by": []},
    }
    assert (await client.get("/v1/capabilities")).json()["segmenters"] == [segmenter]
    assert "words" in assert_problem(await client.get("/readyz"), 503, "no_worker")["detail"]
