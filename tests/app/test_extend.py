"""``task=extend`` at the API: what the fields come to, what is refused by name, and what it counts as."""

import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from redis import Redis

from app.extension import FIELDS, plan
from app.settings import ApiSettings
from jobs import keys
from jobs.errors import InvalidField, TooLarge
from jobs.queue import parameters_of
from jobs.schema import InpaintRequest
from tests.app.json_body import base64_of, post_json
from tests.app.pictures import SIZE, box_mask, photo, with_orientation
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler, our_keys
from tests.factories import encoded

WIDTH, HEIGHT = SIZE  # 64, 48


def planned(fields: dict[str, str], size: tuple[int, int] = SIZE) -> tuple[int, ...]:
    """The borders, and the size."""
    extension = plan(InpaintRequest.model_validate({"task": "extend", **fields}), size, 1_000_000)
    assert extension
    assert (extension.photo[2] - extension.photo[0], extension.photo[3] - extension.photo[1]) == size
    return tuple(extension.model_dump().values())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"extend": "1,2,3,4"}, (1, 2, 3, 4, 68, 54)),
        ({"extend": " 0, 25%, 0 ,10 "}, (0, 12, 0, 10, 64, 70)),
        ({"extend": "50%,50%,100%,12.5%"}, (32, 24, 64, 6, 160, 78)),
        ({"extend": "0.1%,0,0,0"}, (1, 0, 0, 0, 65, 48)),
        ({"aspect": "16:9"}, (10, 0, 11, 0, 85, 48)),
        ({"aspect": "1:1"}, (0, 8, 0, 8, 64, 64)),
        ({"aspect": "1:1", "anchor": "top"}, (0, 0, 0, 16, 64, 64)),
        ({"aspect": "1:1", "anchor": "bottom-left"}, (0, 16, 0, 0, 64, 64)),
        ({"aspect": "1:1", "anchor": "left"}, (0, 8, 0, 8, 64, 64)),
        ({"aspect": "2.5:1", "anchor": "right"}, (56, 0, 0, 0, 120, 48)),
        ({"size": "100x51"}, (18, 1, 18, 2, 100, 51)),
        ({"size": "100X51", "anchor": "top-right"}, (36, 0, 0, 3, 100, 51)),
        ({"size": "64x49", "anchor": "center"}, (0, 0, 0, 1, 64, 49)),
    ],
    ids=str,
)
def test_the_fields_come_to_borders_and_a_size(fields: dict[str, str], expected: tuple[int, ...]) -> None:
    assert planned(fields) == expected


def is_met(width: int, height: int, across: int, down: int) -> bool:
    """Whether one of the sides is the nearest whole number to what the other one asks for."""
    return abs(width - height * across / down) <= 0.5 or abs(height - width * down / across) <= 0.5


def test_an_aspect_is_met_to_the_nearest_pixel_by_one_side_that_grows() -> None:
    for width, height, across, down in np.random.default_rng(1).integers(1, 500, (300, 4)).tolist():
        request = InpaintRequest(task="extend", aspect=f"{across}:{down}")
        try:
            made = plan(request, (width, height), 10**9)
        except InvalidField:
            assert is_met(width, height, across, down)
            continue
        assert made and is_met(made.width, made.height, across, down)
        assert (made.width == width and made.height > height) or (made.width > width and made.height == height)


@pytest.mark.parametrize(
    ("fields", "size", "sentence"),
    [
        ({"extend": "0,0,0,0"}, SIZE, "extend: it adds nothing to the photo, which is 64 x 48 pixels already."),
        ({"extend": "0%,0,0,0"}, SIZE, "extend: it adds nothing"),
        ({"aspect": "4:3"}, SIZE, "aspect: it adds nothing"),
        ({"aspect": "3:2"}, (640, 427), "aspect: it adds nothing"),
        ({"size": "64x48"}, SIZE, "size: it adds nothing"),
        ({"size": "63x100"}, SIZE, "size: the photo is 64 x 48 pixels upright, and an extension takes nothing away"),
    ],
)
def test_an_extension_by_nothing_or_less_is_refused(
    fields: dict[str, str], size: tuple[int, int], sentence: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        planned(fields, size)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    "fields",
    [
        {"extend": "9999999,9999999,9999999,9999999"},
        {"extend": "9999999%,0,0,0"},
        {"aspect": "99999:0.0001"},
        {"size": "9999999x9999999"},
        {"extend": "0,0,0,15578"},
    ],
)
def test_one_that_is_too_large_is_refused_with_its_size(fields: dict[str, str]) -> None:
    with pytest.raises(TooLarge, match=f"{next(iter(fields))}: the photo would become .* the 1000000 that are allowed"):
        planned(fields)
    assert planned({"extend": "0,0,0,15577"}) == (0, 0, 0, 15577, 64, 15625)


# ---- over HTTP


def form(image: bytes | None = None, **more: Any) -> dict[str, Any]:
    return {"image": ("image.png", encoded(photo()) if image is None else image), **more}


async def extend(client: httpx.AsyncClient, file: bytes | None = None, /, **fields: str) -> httpx.Response:
    return await client.post("/v1/inpaint", files=form(file), data={"task": "extend", **fields})


def stored_mask(settler: Settler, job_id: str) -> np.ndarray:
    data = settler.queue.store.inputs(job_id)["mask"]
    assert data
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


@pytest.mark.anyio
async def test_the_job_has_the_borders_and_the_mask_of_what_is_new(client: httpx.AsyncClient, settler: Settler) -> None:
    for send in (
        await extend(client, extend="1,25%,3,4"),
        await post_json(client, {"image": base64_of(encoded(photo())), "task": "extend", "extend": "1,25%,3,4"}),
    ):
        assert send.status_code == 202, send.text
        job = send.json()
        assert job["extend"] == {"left": 1, "top": 12, "right": 3, "bottom": 4, "width": 68, "height": 64}
        assert job["mask"]["sources"] == ["border"] and job["mask"]["mode"] == "white"
        mask = np.full((64, 68), 255, np.uint8)
        mask[12:60, 1:65] = 0
        np.testing.assert_array_equal(stored_mask(settler, job["id"]), mask)
        parameters = parameters_of(settler.queue.job(job["id"]))
        assert parameters.task == "extend" and parameters.extend and parameters.masked_content == "fill"


@pytest.mark.anyio
async def test_sides_are_those_of_the_upright_photo(client: httpx.AsyncClient, settler: Settler) -> None:
    job = (await extend(client, with_orientation(photo(), 6), extend="0,10%,0,0")).json()
    assert job["extend"] == {"left": 0, "top": 7, "right": 0, "bottom": 0, "width": 48, "height": 71}
    assert stored_mask(settler, job["id"]).shape == (71, 48)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "extend, aspect, size: task=extend takes exactly one of"),
        ({"anchor": "top"}, "extend, aspect, size: task=extend takes exactly one of"),
        ({"extend": "1,1,1,1", "aspect": "1:1"}, "extend, aspect: task=extend takes exactly one of"),
        ({"size": "99x99", "aspect": "1:1"}, "aspect, size: task=extend takes exactly one of"),
        ({"extend": "1,1,1,1", "anchor": "left"}, "anchor: it is for aspect and size"),
        ({"extend": "1,1,1,1", "mask_grow": "1"}, "mask_grow: task=extend repaints the new border and nothing else"),
        ({"extend": "1,1,1,1", "mask_feather": "4"}, "mask_feather: task=extend repaints"),
        ({"extend": "1,1,1,1", "mask_box": "[0, 0, 9, 9]"}, "mask_box: task=extend repaints"),
        ({"aspect": "1:1", "mask_mode": "alpha", "mask_threshold": "0.5"}, "mask_mode, mask_threshold: task=extend"),
        ({"extend": "1,1,1"}, "extend: Write it as left,top,right,bottom, each in whole pixels or in percent"),
        ({"extend": "-1,1,1,1"}, "extend: Write it as left"),
        ({"extend": "1.5,1,1,1"}, "extend: Write it as left"),
        ({"extend": "1e3,1,1,1"}, "extend: Write it as left"),
        ({"extend": "12345678,1,1,1"}, "extend: Write it as left"),
        ({"extend": "1," * 60}, "extend: This field's length must be at most 100"),
        ({"aspect": "16/9"}, "aspect: Write it as width:height"),
        ({"aspect": "0:1"}, "aspect: Write it as width:height"),
        ({"size": "0x10"}, "size: Write it as WIDTHxHEIGHT"),
        ({"size": "1024"}, "size: Write it as WIDTHxHEIGHT"),
        ({"aspect": "1:1", "anchor": "middle"}, "anchor: This field must be 'center', 'left'"),
    ],
    ids=str,
)
async def test_fields_that_do_not_go_together_are_refused_by_name(
    client: httpx.AsyncClient, connection: Redis, fields: dict[str, str], sentence: str
) -> None:
    problem = assert_problem(await extend(client, None, **fields), 422, "invalid_field")
    assert problem["detail"].startswith(sentence)
    assert not our_keys(connection)


@pytest.mark.anyio
async def test_a_mask_file_is_refused(client: httpx.AsyncClient) -> None:
    data = {"task": "extend", "extend": "1,1,1,1", "mask_grow": "2"}
    files = form(mask=("mask.png", encoded(box_mask())))
    problem = assert_problem(await client.post("/v1/inpaint", files=files, data=data), 422, "invalid_field")
    assert problem["detail"].startswith("mask, mask_grow: task=extend repaints the new border and nothing else.")


@pytest.mark.anyio
@pytest.mark.parametrize("task", ["fill", "remove"])
async def test_other_tasks_refuse_each_field_of_it_by_name(client: httpx.AsyncClient, task: str) -> None:
    values = {"extend": "1,1,1,1", "aspect": "1:1", "size": "99x99", "anchor": "top"}
    assert values.keys() == {*FIELDS}
    for name, value in values.items():
        files = form(mask=("mask.png", encoded(box_mask())))
        answer = await client.post("/v1/inpaint", files=files, data={"task": task, name: value})
        assert assert_problem(answer, 422, "invalid_field")["detail"].startswith(f"{name}: only task=extend reads it.")


@pytest.mark.anyio
async def test_the_extended_size_counts_for_the_limit_of_pixels_the_quota_and_the_room_of_the_results(
    redis_url: str, connection: Redis
) -> None:
    limits = ApiSettings(redis_url=redis_url, max_pixels=1_200_000, caller_megapixels_per_day=1)
    async with serve(limits) as client:
        problem = assert_problem(await extend(client, extend="1000000,0,0,0"), 413, "too_large")
        assert "extend: the photo would become 1000064 x 48 pixels" in problem["detail"]
        problem = assert_problem(await extend(client, size="1001x1000"), 429, "quota_exceeded")
        assert not our_keys(connection)
        plain = (await extend(client, extend="1,0,0,0")).json()["id"]
        large = (await extend(client, size="900x1000")).json()["id"]
        assert_problem(await extend(client, size="400x400"), 429, "quota_exceeded")
    reserved = {job: int(connection.hget(keys.RESERVED, job) or 0) for job in (plain, large)}
    assert reserved[plain] < 200_000 and reserved[large] > 900 * 1000 * 3


@pytest.mark.anyio
async def test_a_side_is_as_long_as_readers_of_png_take_it(client: httpx.AsyncClient) -> None:
    pixel = encoded(photo((1, 1)))
    for borders in ("999999,0,0,0", "0,0,0,999999"):
        answer = await extend(client, pixel, extend=borders)
        assert answer.status_code == 202, answer.text
        assert max(answer.json()["mask"]["bbox"]) in (999_999, 1_000_000)
    problem = assert_problem(await extend(client, pixel, extend="999999,0,1,0"), 413, "too_large")
    assert problem["detail"].startswith("extend: the photo would become 1000001 pixels long")


@pytest.mark.anyio
async def test_a_model_that_paints_from_surroundings_has_them(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()["models"]
    assert models[0]["needs_surroundings"] and models[0]["tasks"]["extend"]["masked_content"] == "fill"
    assert (await extend(client, size="600x600")).status_code == 202


@pytest.mark.anyio
async def test_openais_edits_keep_their_own_size_and_refuse_the_task(client: httpx.AsyncClient) -> None:
    files = form(mask=("mask.png", encoded(box_mask())))
    refused = await client.post("/v1/images/edits", files=files, data={"prompt": "x", "task": "extend"})
    assert refused.status_code == 400 and refused.json()["error"]["message"].startswith("task: a photo is extended by")
    misread = await client.post("/v1/images/edits", files=files, data={"prompt": "x", "size": "12"})
    assert misread.json()["error"]["message"].startswith("size: auto, or WIDTHxHEIGHT")
