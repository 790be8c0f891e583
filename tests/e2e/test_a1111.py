"""The web UI's API by the ``webuiapi`` package and by plain calls."""

import io
import json
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
import webuiapi
from PIL import Image

from app.dialects.a1111.fields import Img2Img
from app.dialects.a1111.samplers import scheduler_for
from jobs.catalog import ModelEntry
from jobs.errors import InvalidField
from tests.e2e.edits import Pixels
from tests.e2e.img2img import BLUR_PX, IMG2IMG, WEB, ask, assert_exact, body, image_in, in_base64
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack


def test_webuiapi_edits_and_reads_its_lists(stack: Stack, photo: Pixels, hole: Pixels) -> None:
    api = webuiapi.WebUIApi(host="127.0.0.1", port=int(stack.urls[0].rpartition(":")[2]), steps=2)
    with Image.open(PHOTO) as image, Image.open(MASK) as mask:
        found = api.img2img(images=[image], mask_image=mask, prompt="sea", seed=7, batch_size=2, denoising_strength=1)
    assert [one.size for one in found.images] == [(512, 512)] * 2
    assert found.info["all_seeds"] == [7, 8] and len(found.info["infotexts"]) == 2
    buffer = io.BytesIO()
    found.images[1].save(buffer, "PNG")
    assert_exact(in_base64(buffer.getvalue()), photo, hole, BLUR_PX)
    assert "Seed: 8" in api.png_info(found.images[1]).info
    assert [model["title"] for model in api.get_sd_models()] == ["pocket"]
    assert "Euler a" in [sampler["name"] for sampler in api.get_samplers()]
    options = api.get_options()
    assert options["sd_model_checkpoint"] == "pocket"
    api.set_options(options | {"unknown": 1})
    assert api.get_progress()["progress"] == 0.0 and api.get_progress()["state"]["job_count"] == 0
    for read in (api.get_schedulers, api.get_upscalers, api.get_sd_vae, api.get_loras, api.get_scripts, api.get_memory):
        assert read() is not None
    for read in (api.get_cmd_flags, api.get_embeddings, api.get_hypernetworks, api.get_face_restorers):
        assert read() is not None
    assert api.get_prompt_styles() == [] and api.interrupt() is not None


def test_the_other_side_of_the_mask_can_be_repainted(client: httpx.Client, photo: Pixels, hole: Pixels) -> None:
    found = ask(client, inpainting_mask_invert=1, mask_blur=0)
    assert_exact(found["images"][0], photo, 255 - hole)


def test_the_whole_picture_is_stretched_to_other_sides_and_says_so(client: httpx.Client) -> None:
    found = ask(client, inpaint_full_res=False, width=256, height=320)
    info = json.loads(found["info"])
    with image_in(found["images"][0]) as image:
        assert image.size == (256, 320)
        assert "Size: 256x320" in image.text["parameters"]  # type: ignore[attr-defined]
    assert (info["width"], info["height"]) == (256, 320)
    assert info["extra_generation_params"]["Resized"] == "512x512 to 256x320"


def test_the_text_in_the_picture_is_given_back(client: httpx.Client) -> None:
    found = ask(client, prompt='ein Bär 熊, "groß": (rot:1.2)', negative_prompt="blur", seed=11)
    (text,) = json.loads(found["info"])["infotexts"]
    with image_in(found["images"][0]) as image:
        assert image.text["parameters"] == text  # type: ignore[attr-defined]
    told = client.post("/sdapi/v1/png-info", json={"image": WEB + found["images"][0]}).json()
    assert told["info"] == text == told["items"]["parameters"]
    parameters = told["parameters"]
    assert (parameters["Seed"], parameters["Sampler"], parameters["Negative prompt"]) == ("11", "Euler a", "blur")
    assert parameters["Prompt"] == 'ein Bär 熊, "groß": (rot:1.2)' and "Prompt weights" not in parameters


def test_a_default_sampler_on_a_model_without_it_becomes_the_models_own() -> None:
    flow = ModelEntry.model_validate({"family": "flux", "source": "/m"})
    sd = ModelEntry.model_validate({"family": "sd", "source": "/m"})
    webui = {"sampler_name": "Euler a", "scheduler": "automatic"}
    scheduler, name, note = scheduler_for(Img2Img.model_validate(webui), flow, flow.offered())
    assert (scheduler, name) == (None, "Euler") and note
    assert scheduler_for(Img2Img(sampler_name="Euler"), flow, flow.offered())[0] == "flow_euler"
    assert scheduler_for(Img2Img(), sd, sd.offered()) == (None, "DPM++ 2M", None)
    assert scheduler_for(Img2Img(sampler_name="DPM++ 2M"), sd, ["dpmpp_2m"])[0] == "dpmpp_2m"
    for text in ("DPM++ 2M Karras", "dpm++ 2m", "k_dpmpp_2m"):
        assert scheduler_for(Img2Img(sampler_name=text), sd, sd.offered())[0] == "dpmpp_2m_karras"
    assert scheduler_for(Img2Img(sampler_name="DPM++ 2M", scheduler="normal"), sd, sd.offered())[0] == "dpmpp_2m"
    for sampler, schedule in (("PLMS", None), ("Euler", "exponential"), ("Euler a Karras", None), (None, "karras")):
        with pytest.raises(InvalidField):
            scheduler_for(Img2Img(sampler_name=sampler, scheduler=schedule), sd, sd.offered())
    with pytest.raises(InvalidField, match="Those that do: Euler"):
        scheduler_for(Img2Img(sampler_name="DDIM"), flow, flow.offered())


# ---- refusals


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"enable_hr": True}, 422, "enable_hr: this service does not do that"),
        ({"restore_faces": True}, 422, "restore_faces"),
        ({"script_name": "SD upscale"}, 422, "script_name"),
        ({"styles": ["a"]}, 422, "styles"),
        ({"alwayson_scripts": {"ControlNet": {"args": [{"model": "x"}]}}}, 422, "'ControlNet' is not done"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True, {"ad_model": "x"}]}}}, 422, "ADetailer"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, 422, "override_settings.CLIP"),
        ({"override_settings": {"sd_model_checkpoint": "nobody"}}, 404, "there is no model 'nobody'"),
        ({"override_settings": []}, 422, "override_settings"),
        ({"sampler_name": "PLMS"}, 422, "sampler_name: there is no 'PLMS'"),
        ({"init_images": []}, 422, "init_images: 0 pictures"),
        ({"init_images": ["a", "b"]}, 422, "init_images: 2 pictures"),
        ({"init_images": ["%%%"]}, 422, "init_images: this is not base64"),
        ({"init_images": [5]}, 422, "init_images"),
        ({"mask": 5}, 422, "mask"),
        ({"denoising_strength": 0}, 422, "denoising_strength: This field must be greater than 0"),
        ({"batch_size": 4, "n_iter": 4}, 422, "batch_size, n_iter"),
        ({"steps": "many"}, 422, "steps: This field must be a whole number"),
        ({"steps": 201}, 422, "steps: This field must be less than or equal to 200"),
        ({"cfg_scale": 51}, 422, "cfg_scale: This field must be less than or equal to 50"),
        ({"seed": -2}, 422, "seed: This field must be greater than or equal to -1"),
        ({"seed": 2**32 - 1, "n_iter": 2}, 422, "seed, batch_size, n_iter: image k"),
        ({"inpaint_full_res": "perhaps"}, 422, "inpaint_full_res: This field must be true or false"),
        ({"prompt": "a" * 3000}, 422, "prompt: This field's length must be at most 2000"),
        ({"prompt": "a" * 70_000}, 422, "prompt: the text is longer than 65536 bytes"),
        ({"negative_prompt": "a" * 70_000}, 422, "negative_prompt: the text is longer than 65536 bytes"),
        ({"eta": 0.5}, 422, "eta: this service does not do that"),
        ({"infotext": "Steps: 3"}, 422, 'infotext: this service does not do that. Leave it out, or send "".'),
        ({"scheduler": "karras", "sampler_index": None}, 422, "scheduler: a schedule belongs to a sampler"),
        ({"alwayson_scripts": {"Regions": [1]}}, 422, "'Regions' is not done"),
        ({"init_images": [in_base64(b"no picture")]}, 422, "init_images: this is not a picture"),
        ({"mask_blur_x": 1, "mask_blur_y": 9}, 422, "mask_blur_x, mask_blur_y"),
        ({"inpaint_full_res": False, "width": 2049}, 422, "width, height: at most 2048"),
        ({"inpaint_full_res": False, "width": 256, "resize_mode": 1}, 422, "resize_mode"),
        ({"prompt": "<lora:nobody:1>"}, 404, "nobody"),
        ({"prompt": "<lora:a:1:2>"}, 422, "two scales"),
        ({"prompt": "<lora:a:much>"}, 422, "write an adapter as"),
        ({"mask": None}, 422, "covers the whole picture"),
    ],
)
def test_what_cannot_be_honoured_is_named_in_its_own_shape(
    client: httpx.Client, fields: dict[str, Any], status: int, sentence: str
) -> None:
    answer = client.post(IMG2IMG, json=body(**fields))
    told = answer.json()
    assert answer.status_code == status and sentence in told["detail"], told
    assert set(told) == {"error", "detail", "body", "errors", "code"} and told["detail"] == told["errors"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff"])
def test_what_is_no_object_is_refused(client: httpx.Client, content: bytes) -> None:
    for address in (IMG2IMG, "/sdapi/v1/png-info", "/sdapi/v1/options"):
        answer = client.post(address, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422) and "error" in answer.json(), (address, answer.text)


@pytest.mark.parametrize("data", [b"no picture", PHOTO.read_bytes()[:300], b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_picture_without_a_text_has_none(client: httpx.Client, data: bytes) -> None:
    answer = client.post("/sdapi/v1/png-info", json={"image": in_base64(data)})
    assert answer.status_code in (200, 422) and not answer.json().get("info")


def test_text_to_image_is_refused_by_name(client: httpx.Client) -> None:
    assert "repaints" in client.post("/sdapi/v1/txt2img", json={"prompt": "a"}).json()["detail"]


ADDRESSES = (
    "options", "progress", "sd-models", "samplers", "schedulers", "loras", "sd-vae", "upscalers", "embeddings",
    "memory", "cmd-flags", "scripts", "prompt-styles",
)  # fmt: skip


@pytest.mark.parametrize("address", [*(f"/sdapi/v1/{name}" for name in ADDRESSES), "/controlnet/model_list"])
def test_every_list_is_there_with_and_without_a_slash(client: httpx.Client, address: str) -> None:
    for path in (address, f"{address}/", f"{address}?skip_current_image=false"):
        assert client.get(path).status_code == 200
        assert client.head(path).status_code == 200


def test_the_documented_lines_run(stack: Stack, hole: Pixels, photo: Pixels, tmp_path: Any) -> None:
    text = (ROOT / "docs" / "clients.md").read_text()
    (code,) = re.findall(r"```python\n(import webuiapi.*?)```", text, re.DOTALL)
    (tmp_path / "photo.png").write_bytes(PHOTO.read_bytes())
    (tmp_path / "mask.png").write_bytes(MASK.read_bytes())
    program = code.replace("port=8000", f"port={stack.urls[0].rpartition(':')[2]}")
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    assert_exact(in_base64((tmp_path / "result.png").read_bytes()), photo, hole, BLUR_PX)
