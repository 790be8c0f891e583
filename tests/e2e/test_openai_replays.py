"""OpenAI's dialect, by requests as other clients write them (read from their source)."""

import base64
import json
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.edits import Pixels, assert_only_the_hole_changed, opened, with_hole
from tests.e2e.stack import MASK, PHOTO, Stack
from tests.factories import png

JSON = {"Content-Type": "application/json"}
ODD: dict[str, Any] = {"output_format": [], "response_format": {}, "size": 0, "n": 0, "stream": [], "prompt": 3}
ODD |= {"output_compression": "\u0661"}
"""What a form cannot hold, and JSON can. The last one is a digit to Python alone."""


def edited(stack: Stack, path: str, **sent: Any) -> httpx.Response:
    answer = httpx.post(f"{stack.urls[0]}{path}", timeout=60, **sent)
    assert answer.status_code == 200, answer.text
    return answer


def refused(stack: Stack, **sent: Any) -> dict[str, Any]:
    """The error of a 400."""
    answer = httpx.post(f"{stack.urls[0]}/v1/images/edits", timeout=60, **sent)
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_litellms_proxy_sends_lists_and_options_that_mean_nothing_here(
    stack: Stack, photo: Pixels, hole: Pixels
) -> None:
    fields = {"model": "gpt-image-1", "prompt": "sea", "n": "1", "size": "auto", "quality": "high", "mask": "text"}
    fields |= {"input_fidelity": "low", "moderation": "auto", "partial_images": "9", "num_inference_steps": "1"}
    files = [("image[]", ("image.png", PHOTO.read_bytes())), ("mask", ("upload", MASK.read_bytes()))]
    answer = edited(stack, "/v1/images/edits", data=fields, files=files)
    assert answer.headers["Infill-Ignored"] == "input_fidelity, moderation, partial_images, quality"
    assert_only_the_hole_changed(opened(answer.json()["data"][0]["b64_json"]), photo, hole)


def test_n8n_sends_a_size_by_default_and_the_answer_has_it(stack: Stack, photo: Pixels, hole: Pixels) -> None:
    fields = {"model": "gpt-image-1.5", "prompt": "sea", "n": "1", "size": "1024x1024", "quality": "auto"}
    files = [("image[]", ("image.png", PHOTO.read_bytes())), ("mask", ("mask.png", with_hole(photo, hole)))]
    answer = edited(stack, "/v1/images/edits", data=fields | {"background": "auto"}, files=files)
    assert answer.headers["Infill-Resized"] == "512x512 to 1024x1024"
    assert opened(answer.json()["data"][0]["b64_json"]).shape == (1024, 1024, 3)

    wide = png(photo[:320])
    error = refused(stack, data=fields, files=[("image[]", ("image.png", wide)), ("mask", ("m", png(hole[:320])))])
    assert (error["param"], error["code"]) == ("size", "invalid_field")
    assert "512x320" in error["message"] and "size=auto" in error["message"]


def test_n8n_asks_for_an_address_of_what_it_calls_dall_e_2(stack: Stack, photo: Pixels, hole: Pixels) -> None:
    fields = {"model": "dall-e-2", "prompt": "sea", "n": "1", "size": "512x512", "response_format": "url"}
    answer = edited(stack, "/v1/images/edits", data=fields, files={"image": ("image.png", with_hole(photo, hole))})
    (image,) = answer.json()["data"]
    assert image["b64_json"] is None
    fetched = httpx.get(image["url"], headers={"Authorization": "Bearer unused"})
    assert fetched.headers["content-type"].startswith("image/")
    assert_only_the_hole_changed(opened(base64.b64encode(fetched.content).decode()), photo, hole)
    assert "Infill-Ignored" not in answer.headers

    larger = fields | {"size": "1024x1024"}  # its default; only images of the photo's own size have addresses
    answer = edited(stack, "/v1/images/edits", data=larger, files={"image": ("image.png", with_hole(photo, hole))})
    assert answer.headers["Infill-Ignored"] == "response_format"
    assert opened(answer.json()["data"][0]["b64_json"]).shape == (1024, 1024, 3)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": "gpt-image-1", "prompt": "sea", "quality": "auto", "size": "auto"}, "image[]"),
        ({"model": "gpt-image-1", "prompt": "sea", "n": "1", "response_format": "b64_json"}, "image"),
    ],
    ids=["LibreChat", "Open WebUI"],
)
def test_a_client_that_sends_no_mask_edits_what_is_transparent_and_is_told_so_where_nothing_is(
    stack: Stack, photo: Pixels, hole: Pixels, fields: dict[str, str], name: str
) -> None:
    own = {name: ("image.png", with_hole(photo, hole), "image/png")}
    answer = edited(stack, "/v1/images/edits?api-version=2025-04-01-preview", data=fields, files=own)
    assert answer.headers["Infill-Mask-Mode"] == "alpha"
    assert_only_the_hole_changed(opened(answer.json()["data"][0]["b64_json"]), photo, hole)

    error = refused(stack, data=fields, files={name: ("image.png", PHOTO.read_bytes(), "image/png")})
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "mask", "empty_mask")
    assert "Send a mask, or an image with transparent pixels" in error["message"]


def test_dify_sends_a_size_a_quality_and_a_list_of_one(stack: Stack) -> None:
    with openai.OpenAI(base_url=f"{stack.urls[0]}/v1", api_key="unused", max_retries=0) as client:
        answer = client.images.edit(
            model="gpt-image-1", prompt="sea", n=1, size="1024x1024", quality="high",
            image=[("image.png", PHOTO.read_bytes(), "image/png")], mask=("mask.png", MASK.read_bytes(), "image/png"),
        )  # fmt: skip
    assert answer.size == "1024x1024"
    assert answer.data and opened(answer.data[0].b64_json or "").shape == (1024, 1024, 3)


def test_azure_mode_names_the_model_in_the_path(stack: Stack, photo: Pixels, hole: Pixels) -> None:
    answer = edited(
        stack, "/openai/deployments/gpt-image-1/images/edits?api-version=2025-04-01-preview",
        data={"prompt": "sea"}, headers={"api-key": "unused"},
        files={"image": ("blob", with_hole(photo, hole))},
    )  # fmt: skip
    assert answer.headers["Infill-Model"] == "pocket"


def test_json_brings_pictures_as_data_urls(stack: Stack, photo: Pixels, hole: Pixels) -> None:
    image, mask = (
        {"image_url": f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"} for path in (PHOTO, MASK)
    )
    body: dict[str, Any] = {"images": [image], "mask": mask, "prompt": "sea", "num_inference_steps": 1, "size": "auto"}
    nothing = {"output_format": None, "response_format": None, "user": None, "n": None, "stream": None, "quality": ""}
    answer = edited(stack, "/images/edits", json=body | nothing)
    assert "Infill-Ignored" not in answer.headers
    assert_only_the_hole_changed(opened(answer.json()["data"][0]["b64_json"]), photo, hole)
    wrongs: list[Any] = [{"images": ["http://x/y.png"]}, {"images": [{"file_id": "f"}]}, [], "x"]
    wrongs += [body | {"output_format": "webp", name: value} for name, value in ODD.items()]
    for wrong in wrongs:
        assert refused(stack, content=json.dumps(wrong), headers=JSON)
