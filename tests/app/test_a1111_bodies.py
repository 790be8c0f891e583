"""What odd and hostile bodies of the web UI's API come to, and how its answers are put together."""

import base64
import io
import json
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from PIL import Image

from app.dialects.a1111 import infotext
from app.dialects.a1111.fields import Context, translate
from app.dialects.a1111.routes import MAX_TEXT_CHARACTERS
from app.settings import ApiSettings
from jobs import png_chunks
from jobs.catalog import Catalog, ModelEntry
from jobs.previews import Preview
from tests.app.metrics import metrics_of, value
from tests.app.pictures import box_mask, photo
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.factories import encoded

pytestmark = pytest.mark.anyio

IMG2IMG, PNG_INFO = "/sdapi/v1/img2img", "/sdapi/v1/png-info"
MODEL = """
[models.first]
family = "sd"
source = "/models/first"
max_num_inference_steps = 60
"""


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


BODY: dict[str, Any] = {"init_images": [in_base64(encoded(photo()))], "mask": in_base64(encoded(box_mask()))}


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(MODEL)
    return ApiSettings(redis_url=redis_url, catalog=str(catalog), max_wait_s=10)


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


class Run:
    """One img2img call, whose job ends with ``images``. ``answer`` and ``job`` are there once it has ended."""

    def __init__(self, client: httpx.AsyncClient, settler: Settler, images: list[bytes] | None = None) -> None:
        self.client, self.settler, self.images = client, settler, images or [encoded(photo())]
        self.answer: httpx.Response
        self.parameters: dict[str, Any] = {}

    async def __call__(self, **fields: Any) -> dict[str, Any]:
        self.answer = httpx.Response(0)
        async with anyio.create_task_group() as group:
            group.start_soon(self._post, fields)
            await self._settle()
        assert self.answer.status_code == 200, self.answer.text
        found: dict[str, Any] = self.answer.json()
        return found | {"info": json.loads(found["info"])}

    async def _post(self, fields: dict[str, Any]) -> None:
        # as text: httpx refuses to write what is no Unicode
        content = json.dumps(BODY | fields).encode()
        headers = {"Content-Type": "application/json"}
        self.answer = await self.client.post(IMG2IMG, content=content, headers=headers)

    async def _settle(self) -> None:
        with anyio.fail_after(10):
            while not (ids := self.settler.queue.rq.get_job_ids()):
                if self.answer.status_code:
                    return
                await anyio.sleep(0.02)
        (job_id,) = map(str, ids)
        self.parameters = self.settler.queue.job(job_id).kwargs | {"id": job_id}
        self.settler.start(job_id)
        self.settler.succeed(job_id, self.images)


@pytest.fixture
def run(client: httpx.AsyncClient, settler: Settler) -> Run:
    return Run(client, settler)


# ---- texts of PNGs


def with_text(kind: bytes, data: bytes) -> bytes:
    png = encoded(photo())
    return png[:33] + png_chunks.chunk(kind, b"parameters\0" + data) + png[33:]


BOMB = with_text(b"zTXt", b"\0" + zlib.compress(b"a" * png_chunks.MAX_PROFILE_BYTES))


async def test_a_text_that_inflates_far_is_refused(client: httpx.AsyncClient) -> None:
    assert len(BOMB) < 50_000
    began = time.process_time()
    answer = await client.post(PNG_INFO, json={"image": in_base64(BOMB)})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_image")
    assert f"longer than the {MAX_TEXT_CHARACTERS} characters" in answer.json()["detail"]
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", ["a", "a:", "ab: ", 'ab: "', 'ab: "\\"', "a b,", " ", "\\", 'ab:"\\",', "a,b:c,"])
def test_reading_settings_costs_no_more_than_the_text_is_long(text: str) -> None:
    line = text * (MAX_TEXT_CHARACTERS // len(text))
    began = time.process_time()
    infotext.parsed("a prompt\n" + line)
    assert time.process_time() - began < 1


def test_settings_are_read_as_the_web_ui_writes_them() -> None:
    line = 'Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, , Lora hashes: "a: 1, b: 2", Note: "say \\"x\\", \\\\", x'
    found = infotext.parsed(f"a, b\nNegative prompt: c\nd\n{line}")
    assert found == {
        "Prompt": "a, b",
        "Negative prompt": "c\nd",
        "Steps": "20",
        "Sampler": "DPM++ 2M",
        "CFG scale": "7",
        "Lora hashes": "a: 1, b: 2",
        "Note": 'say "x", \\',
    }
    for text in ("", "a", "a prompt: of two, parts: here", "\n\n"):
        assert infotext.parsed(text) == {}


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
async def test_texts_of_each_kind_are_given_back(client: httpx.AsyncClient, kind: bytes) -> None:
    text = b"a prompt\nSteps: 20, Sampler: Euler, Seed: 5"
    data = {b"tEXt": text, b"zTXt": b"\0" + zlib.compress(text), b"iTXt": b"\0\0\0\0" + text}[kind]
    told = (await client.post(f"{PNG_INFO}/", json={"image": in_base64(with_text(kind, data))})).json()
    assert (told["info"], told["parameters"]["Seed"]) == (text.decode(), "5")


async def test_a_file_beyond_the_limit_is_not_searched_for_a_text(settings: ApiSettings) -> None:
    async with serve(settings.model_copy(update={"max_image_bytes": 1000})) as client:
        answer = await client.post(PNG_INFO, json={"image": in_base64(BOMB)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


# ---- odd values


async def test_text_that_is_no_unicode_cannot_break_the_answer(run: Run) -> None:
    odd = {"override_settings": {"\ud800": "\ud800"}, "\udfff": 1, "sampler_index": "\ud800", "sampler_name": "Euler"}
    found = await run(**odd, prompt="a\0b")
    assert found["info"]["extra_generation_params"]["Ignored"] == "override_settings.\ud800, \udfff"
    assert found["parameters"]["override_settings"] == {"sd_model_checkpoint": "first"}
    with Image.open(io.BytesIO(base64.b64decode(found["images"][0]))) as image:
        assert image.text["parameters"].startswith("a b\nSteps: 50")  # type: ignore[attr-defined]


async def test_what_is_ignored_is_listed(run: Run) -> None:
    scripts = {"ADetailer": {"args": [False]}, "ControlNet": {"args": []}, "Tiles": {"args": [False, 5]}}
    unknown = {f"x{number:02}": 1 for number in range(60)}
    found = await run(include_init_images=True, save_images=True, alwayson_scripts=scripts, subseed=4, **unknown)
    names = found["info"]["extra_generation_params"]["Ignored"]
    assert names.startswith("alwayson_scripts.Tiles, include_init_images, save_images, subseed, x00, x01")
    assert names.endswith(" and 24 more")


async def test_more_steps_than_the_model_takes_are_refused_in_the_callers_words(client: httpx.AsyncClient) -> None:
    answer = await client.post(IMG2IMG, json=BODY | {"steps": 61})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "steps: model 'first' takes at most 60."


@pytest.mark.parametrize("content", [b"{", b"[]", b'"x"', b"[" * 5000, b"\xff", b'{"a": 1, "a": 2}'])
async def test_options_are_an_object_or_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/sdapi/v1/options", content=content)
    assert answer.status_code in (400, 422) and answer.json()["detail"] == answer.json()["errors"]


# ---- what becomes of the fields


async def test_a_default_sampler_that_a_worker_found_unfit_becomes_the_models_own(run: Run, settler: Settler) -> None:
    settler.queue.store.known.put_schedulers("/models/first", ["dpmpp_2m"])
    found = await run(sampler_name="Euler a", sampler_index="Euler a", scheduler="automatic")
    assert run.parameters["scheduler"] == "dpmpp_2m" and found["info"]["sampler_name"] == "DPM++ 2M"
    assert "does not fit" in found["info"]["extra_generation_params"]["Sampler note"]
    (line,) = [line for line in found["info"]["infotexts"][0].splitlines() if line.startswith("Steps: ")]
    assert infotext.parsed(f"\n{line}")["Sampler"] == "DPM++ 2M"
    listed = (await run.client.get("/sdapi/v1/samplers")).json()
    assert [sampler["name"] for sampler in listed] == ["DPM++ 2M"]
    answer = await run.client.post(IMG2IMG, json=BODY | {"sampler_name": "DDIM"})
    assert answer.json()["detail"].startswith("sampler_name: DDIM does not fit the model")


async def test_fields_become_the_services_own(run: Run) -> None:
    await run(mask_blur=8, inpaint_full_res_padding=20, inpainting_fill=1, cfg_scale="5", seed="7", batch_size=2)
    own = ("mask_feather", "crop", "crop_padding", "masked_content", "guidance_scale", "seed", "n")
    assert [run.parameters[name] for name in own] == [20, "auto", 20, "original", 5.0, 7, 2]
    found = await run(inpaint_full_res=False, width=64, height=48, inpainting_fill=3)
    assert [run.parameters[name] for name in ("crop", "masked_content", "mask_feather")] == ["off", "noise", 10]
    assert found["info"]["extra_generation_params"]["Masked content note"]


async def test_a_mask_is_hard_unless_its_values_are_asked_for(run: Run) -> None:
    grey = box_mask().point(lambda level: level * 150 // 255)
    soft = {"Soft Inpainting": {"args": [True, 1, 0.5]}}
    for fields, strength in (({}, 255), ({"mask_round": False}, 150), ({"alwayson_scripts": soft}, 150)):
        await run(mask=in_base64(encoded(grey)), **fields)
        mask = run.settler.queue.job(run.parameters["id"]).meta["mask"]
        left, top, right, bottom = mask["bbox"]
        share = (right - left) * (bottom - top) / (photo().width * photo().height)
        assert mask["coverage"] == pytest.approx(share * strength / 255, rel=0.01)


async def test_without_a_mask_the_whole_picture_is_repainted(run: Run) -> None:
    await run(mask=None)
    mask = run.settler.queue.job(run.parameters["id"]).meta["mask"]
    assert (mask["coverage"], mask["sources"]) == (1.0, ["box"])
    assert run.parameters["mask_feather"] == 0


# ---- answers


async def test_images_of_several_parts_arrive_whole(client: httpx.AsyncClient, settler: Settler) -> None:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (700, 900, 3), np.uint8) for _ in range(3)]
    run = Run(client, settler, [encoded(Image.fromarray(one)) for one in pictures])
    found = await run(n_iter=3)
    assert "Content-Length" not in run.answer.headers
    for picture, text in zip(pictures, found["images"], strict=True):
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
            assert np.array_equal(np.asarray(image), picture)
    assert len(found["info"]["all_seeds"]) == len(found["info"]["infotexts"]) == 3
    without = await run(n_iter=3, send_images=False)
    assert without["images"] == [] and len(without["info"]["all_seeds"]) == 3


async def test_progress_shows_the_job_as_it_forms(client: httpx.AsyncClient, settler: Settler) -> None:
    answers: list[httpx.Response] = []

    async def submit() -> None:
        answers.append(await client.post(IMG2IMG, json=BODY))

    async def progress(query: str = "") -> dict[str, Any]:
        found: dict[str, Any] = (await client.get(f"/sdapi/v1/progress{query}")).json()
        return found

    store = settler.queue.store
    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        with anyio.fail_after(10):
            while (
                not (ids := settler.queue.rq.get_job_ids())
                or not (await progress("?skip_current_image=true"))["state"]["job_count"]
            ):
                await anyio.sleep(0.02)
        (job_id,) = map(str, ids)
        settler.start(job_id)
        assert not store.flags([job_id]).previewed
        assert (await progress())["current_image"] is None
        assert store.flags([job_id]).previewed == {job_id}
        shown = Preview(step=1, steps=2, box=(0, 0, 8, 8), size=(64, 48), image="data:image/jpeg;base64,QUJD")
        with settler.queue.connection.pipeline() as pipeline:
            store.previews.write(pipeline, job_id, shown.model_dump_json())
            pipeline.execute()
        assert (await progress("?skip_current_image=false"))["current_image"] == "QUJD"
        assert (await progress("?skip_current_image=true"))["current_image"] is None
        settler.succeed(job_id, [encoded(photo())])
    assert answers[0].status_code == 200 and (await progress())["current_image"] is None


async def test_only_what_makes_jobs_counts_as_a_refused_job(client: httpx.AsyncClient) -> None:
    await client.post(PNG_INFO, json={"image": 5})
    await client.post("/sdapi/v1/options", json=[])
    counted = await metrics_of(client)
    assert not [name for name, _ in counted if name == "infill_jobs_refused_total"]
    await client.post(IMG2IMG, json={})
    assert value(await metrics_of(client), "infill_jobs_refused_total", code="invalid_field") == 1


# ---- weights


async def test_words_are_weighted_as_in_the_web_ui(run: Run) -> None:
    prompt, negative_prompt = r"a (red:1.3) [ball] \(toy\) BREAK grass", "(blur:1.2)"
    told = await run(prompt=prompt + "<lora:>", negative_prompt=negative_prompt)
    asked = run.parameters
    assert (asked["prompt_syntax"], asked["negative_prompt"]) == ("a1111", negative_prompt)
    assert asked["prompt"].startswith(prompt) and "Prompt weights" not in told["info"]["infotexts"][0]


@pytest.mark.parametrize("prompt", ["[cat:dog:0.5]", "[cat|dog]", "a AND b", "(cat:-1)", "(cat:11)", "(a:..)"])
async def test_what_the_web_ui_does_and_this_service_does_not_is_refused(
    client: httpx.AsyncClient, prompt: str
) -> None:
    answer = await client.post(IMG2IMG, json=BODY | {"negative_prompt": prompt})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_field")
    assert answer.json()["detail"].startswith("negative_prompt: ")


@pytest.mark.parametrize(
    ("prompt", "noted"), [("a (red:1.3)", True), ("a BREAK b", True), ("[a|b]", True), ("a", False)]
)
def test_where_words_cannot_be_weighted_brackets_are_text_and_the_answer_says_so(prompt: str, noted: bool) -> None:
    catalog = Catalog(models={"flow": ModelEntry.model_validate({"family": "flux", "source": "/m"})})
    translated = translate({"prompt": prompt}, Context(catalog, None, {"flow": ["flow_euler"]}), has_mask=True)
    assert (translated.request.prompt, translated.request.prompt_syntax) == (prompt, "plain")
    assert translated.notes.get("Prompt weights") == ("read as text" if noted else None)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "a" + " " * 60_000},
        {"negative_prompt": "[a" * 30_000},
        {"override_settings": {"sd_model_checkpoint": "a" + " " * 60_000 + "b"}},
    ],
    ids=["blanks", "brackets", "a title"],
)
async def test_long_texts_are_refused_in_no_time(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    began = time.process_time()
    answer = await client.post(IMG2IMG, json=BODY | body)
    assert time.process_time() - began < 1
    assert answer.status_code in (404, 422) and len(answer.content) < 1_000
