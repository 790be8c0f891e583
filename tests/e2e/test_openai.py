"""OpenAI's dialect, by its official package and by requests as other clients write them."""

import asyncio
import base64
import io
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.e2e.edits import Pixels, assert_only_the_hole_changed, opened, with_hole
from tests.e2e.stack import MASK, PHOTO, Stack


@pytest.fixture
def client(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.urls[0]}/v1", api_key="unused", max_retries=0)


@pytest.mark.parametrize("form", ["white", "transparent", "own"])
def test_an_edit_keeps_everything_outside_the_mask(
    client: openai.OpenAI, photo: Pixels, hole: Pixels, form: str
) -> None:
    masks = {"white": MASK.read_bytes(), "transparent": with_hole(photo, hole)}
    files = {"mask": ("mask.png", masks[form])} if form in masks else {}
    image = with_hole(photo, hole) if form == "own" else PHOTO.read_bytes()
    asked: dict[str, Any] = {"model": "gpt-image-1", "prompt": "sea", "image": ("photo.png", image)} | files
    answer = client.images.with_raw_response.edit(**asked, extra_body={"seed": 5, "num_inference_steps": 1})
    assert answer.headers["Infill-Model"] == "pocket"
    assert answer.headers["Infill-Mask-Mode"] == ("white" if form == "white" else "alpha")
    assert answer.headers["Infill-Changed-Outside-Mask"] == "0"
    images = answer.parse()
    assert images.data and images.size == "512x512"
    assert_only_the_hole_changed(opened(images.data[0].b64_json or ""), photo, hole)


def test_the_asynchronous_client_edits_too(stack: Stack, photo: Pixels, hole: Pixels) -> None:
    async def edit() -> str:
        async with openai.AsyncOpenAI(base_url=f"{stack.urls[0]}/v1", api_key="unused", max_retries=0) as client:
            with PHOTO.open("rb") as image, MASK.open("rb") as mask:
                answer = await client.images.edit(
                    model="dall-e-2", prompt="", image=[image], mask=mask, n=2, quality="high", user="u"
                )
        assert answer.data and len(answer.data) == 2
        return answer.data[1].b64_json or ""

    assert_only_the_hole_changed(opened(asyncio.run(edit())), photo, hole)


def test_a_stream_ends_with_the_completed_image(client: openai.OpenAI, photo: Pixels, hole: Pixels) -> None:
    with PHOTO.open("rb") as image, MASK.open("rb") as mask:
        events = list(client.images.edit(model="gpt-image-1", prompt="", image=image, mask=mask, stream=True))
    assert [event.type for event in events] == ["image_edit.completed"]
    assert_only_the_hole_changed(opened(events[0].b64_json), photo, hole)


def test_partial_images_show_the_picture_as_it_forms(client: openai.OpenAI, photo: Pixels, hole: Pixels) -> None:
    with PHOTO.open("rb") as image, MASK.open("rb") as mask:
        *partial, last = client.images.edit(
            model="gpt-image-1", prompt="", image=image, mask=mask, stream=True, partial_images=3,
            extra_body={"num_inference_steps": 24},
        )  # fmt: skip
    assert last.type == "image_edit.completed" and last.usage.total_tokens == 0
    assert_only_the_hole_changed(opened(last.b64_json), photo, hole)
    assert 1 <= len(partial) <= 3
    for index, event in enumerate(partial):
        assert event.type == "image_edit.partial_image" and event.partial_image_index == index
        shown = Image.open(io.BytesIO(base64.b64decode(event.b64_json))).convert("RGBA")
        assert f"{shown.width}x{shown.height}" == event.size
        small = Image.fromarray(opened(last.b64_json)).resize(shown.size, Image.Resampling.BOX)
        run = np.asarray(shown)[..., 3] == 255
        assert run.any() and np.abs(np.asarray(small, float) - np.asarray(shown)[..., :3])[run].mean() < 20


def test_an_error_in_a_stream_is_the_clients_own_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="partial_images: a whole number"):
        client.images.edit(model="gpt-image-1", prompt="", image=PHOTO.read_bytes(), stream=True, partial_images=5)


def test_a_smaller_size_of_the_same_shape_is_resized_and_said(client: openai.OpenAI) -> None:
    with PHOTO.open("rb") as image, MASK.open("rb") as mask:
        answer = client.images.with_raw_response.edit(
            model="dall-e-2", prompt="", image=image, mask=mask, size="256x256", output_format="webp",
            extra_body={"num_inference_steps": 1},
        )  # fmt: skip
    assert answer.headers["Infill-Resized"] == "512x512 to 256x256"
    assert "Infill-Changed-Outside-Mask" not in answer.headers
    data = base64.b64decode((answer.parse().data or [])[0].b64_json or "")
    with Image.open(io.BytesIO(data)) as result:
        assert (result.format, result.size) == ("WEBP", (256, 256))
        assert b"compositeWithTrainedAlgorithmicMedia" in result.info["xmp"]


def decoded(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
@pytest.mark.parametrize("answered", ["b64_json", "url"])
def test_a_job_makes_the_format_itself(
    client: openai.OpenAI, photo: Pixels, hole: Pixels, output_format: str, answered: str
) -> None:
    with PHOTO.open("rb") as image, MASK.open("rb") as mask:
        answer = client.images.with_raw_response.edit(
            model="dall-e-2", prompt="", image=image, mask=mask, output_format=output_format,  # type: ignore[call-overload]
            response_format=answered, output_compression=90, extra_body={"num_inference_steps": 1},
        )  # fmt: skip
    found = answer.parse()
    assert found.output_format == output_format and "Infill-Changed-Outside-Mask" not in answer.headers
    one = found.data[0]
    data = base64.b64decode(one.b64_json) if one.b64_json else httpx.get(one.url).content
    with Image.open(io.BytesIO(data)) as result:
        assert (result.format, result.size) == (output_format.upper(), (512, 512)) and len(result.getexif())
    off = np.abs(decoded(data).astype(int) - photo)[hole == 0]
    assert 0 < off.mean() < 3


def test_the_webp_of_no_compression_is_exact(client: openai.OpenAI, photo: Pixels, hole: Pixels) -> None:
    with PHOTO.open("rb") as image, MASK.open("rb") as mask:
        answer = client.images.with_raw_response.edit(
            model="gpt-image-1", prompt="", image=image, mask=mask, output_format="webp"
        )
    assert answer.headers["Infill-Changed-Outside-Mask"] == "0"
    assert_only_the_hole_changed(opened((answer.parse().data or [])[0].b64_json or ""), photo, hole)


def test_a_jpeg_of_an_image_with_transparency_is_made_of_a_png(
    client: openai.OpenAI, photo: Pixels, hole: Pixels
) -> None:
    answer = client.images.with_raw_response.edit(
        model="dall-e-2", prompt="", image=("photo.png", with_hole(photo, hole)), output_format="jpeg",
        response_format="url", extra_body={"num_inference_steps": 1},
    )  # fmt: skip
    assert answer.headers["Infill-Ignored"] == "response_format"
    data = base64.b64decode((answer.parse().data or [])[0].b64_json or "")
    with Image.open(io.BytesIO(data)) as result:
        assert (result.format, result.mode) == ("JPEG", "RGB")
    assert np.abs(decoded(data).astype(int) - photo)[hole == 0].mean() < 3


def test_the_models_are_listed_for_it_too(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["pocket"]


def test_an_address_can_be_asked_for_and_fetched(client: openai.OpenAI, photo: Pixels, hole: Pixels) -> None:
    with PHOTO.open("rb") as image, MASK.open("rb") as mask:
        answer = client.images.edit(
            model="dall-e-2", prompt="", image=image, mask=mask, response_format="url",
            extra_body={"num_inference_steps": 1},
        )  # fmt: skip
    found = httpx.get((answer.data or [])[0].url or "")
    assert found.headers["Content-Type"] == "image/png"
    assert_only_the_hole_changed(opened(base64.b64encode(found.content).decode()), photo, hole)


# ---- refusals


@pytest.mark.parametrize(
    ("fields", "files", "param", "code"),
    [
        ({"size": "1536x1024"}, {}, "size", "invalid_field"),
        ({"size": "huge"}, {}, "size", "invalid_field"),
        ({"n": "9"}, {}, "n", "invalid_field"),
        ({"background": "transparent"}, {}, "background", "invalid_field"),
        ({"output_format": "gif"}, {}, "output_format", "invalid_field"),
        ({"seed": "x"}, {}, "seed", "invalid_field"),
        ({"loras": "{"}, {}, "loras", "invalid_field"),
        ({"output_compression": "101", "output_format": "jpeg"}, {}, "output_compression", "invalid_field"),
        ({}, {"mask": None}, "mask", "empty_mask"),
        ({}, {"image": None}, "image", "invalid_field"),
        ({}, {"image": b"no picture"}, "image", "invalid_image"),
        ({}, {"mask": b"no picture"}, "mask", "invalid_mask"),
    ],
)
def test_what_cannot_be_honoured_is_a_400_of_its_shape(
    stack: Stack, fields: dict[str, str], files: dict[str, bytes | None], param: str, code: str
) -> None:
    sent: dict[str, Any] = {"image": PHOTO.read_bytes(), "mask": MASK.read_bytes()} | files
    parts = {name: ("blob", data) for name, data in sent.items() if data is not None}
    answer = httpx.post(
        f"{stack.urls[0]}/v1/images/edits", data={"prompt": "x"} | fields, files=parts or {"x": ("x", b"")}
    )
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)


def test_several_images_and_an_unknown_model_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="2 files"):
        client.images.edit(model="gpt-image-1", prompt="", image=[PHOTO.read_bytes(), PHOTO.read_bytes()])
    with pytest.raises(openai.NotFoundError) as raised:
        client.images.edit(model="midjourney", prompt="", image=PHOTO.read_bytes(), mask=MASK.read_bytes())
    assert raised.value.code == "unknown_model" and "pocket" in raised.value.message
