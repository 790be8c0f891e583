"""Every field in every shape that a part can have: read as it is meant, or refused by name."""

import http.client
import json
from typing import Any

import httpx
import pytest
from redis import Redis

from app.extension import FIELDS as EXTEND
from app.inpaint_form import ADDRESSES, INPAINT
from app.settings import ApiSettings
from jobs.queue import parameters_of
from tests.app.multipart import FIND_A_SUBJECT, IMAGE, KIND, MASK, PAIR, body, file, named, part, text
from tests.app.pictures import box_mask, photo
from tests.app.problems import assert_problem
from tests.app.processes import ApiProcess
from tests.app.serving import serve
from tests.app.settling import Settler, our_keys
from tests.app.submissions import files
from tests.factories import encoded

VALUES = {
    "task": "fill",
    "prompt": "a red ball",
    "negative_prompt": "blur",
    "model": "pocket",
    "preset": "fast",
    "seed": "5",
    "n": "2",
    "num_inference_steps": "4",
    "guidance_scale": "1.5",
    "strength": "0.5",
    "scheduler": "euler",
    "mask_mode": "white",
    "mask_grow": "1",
    "mask_feather": "2",
    "crop": "off",
    "crop_padding": "8",
    "hires": "off",
    "cache_interval": "2",
    "prompt_syntax": "a1111",
    "masked_content": "noise",
    "output_format": "webp",
    "output_quality": "80",
    "on_disconnect": "continue",
    "loras": "[]",
    "mask_scale": "full",
    "mask_threshold": "0.5",
    "mask_box": "[0, 0, 3, 3]",
    "mask_polygon": "[[1, 1], [9, 2], [5, 8]]",
    "output_color": "rgb",
    "metadata": "keep_gps",
    "bit_depth": "8",
    "priority": "low",
}
"""A value of each text field that is allowed."""

BESIDE = {"output_quality": ("output_format", "webp")}
"""What a field needs to be sent with."""


async def post(client: httpx.AsyncClient, *parts: bytes, kind: str = KIND, query: str = "") -> httpx.Response:
    return await client.post(f"/v1/inpaint{query}", content=body(*parts), headers={"content-type": kind})


def settled(settler: Settler, response: httpx.Response) -> dict[str, Any]:
    """The parameters of the job that was made; not a seed that was drawn."""
    assert response.status_code == 202, response.text
    parameters = parameters_of(settler.queue.job(response.json()["id"])).model_dump()
    return {name: value for name, value in parameters.items() if name != "seed" or value == int(VALUES["seed"])}


def test_the_values_are_those_of_all_text_fields() -> None:
    elsewhere = ADDRESSES | FIND_A_SUBJECT | {*EXTEND}  # test_outgoing.py, test_extend.py and others have these
    assert VALUES.keys() == INPAINT.texts - elsewhere


GOOD_SHAPES: dict[str, tuple[list[str], list[str]]] = {  # parameters of the disposition, further headers
    "text/plain": ([], ["Content-Type: text/plain"]),
    "a charset": ([], ["Content-Type: text/plain; charset=UTF-8"]),
    "another charset": ([], ["Content-Type: text/plain; charset=ISO-8859-1", "Content-Transfer-Encoding: 8bit"]),
    "JSON": ([], ["Content-Type: application/json"]),
    "JSON with a charset": ([], ["CONTENT-TYPE: Application/JSON ; charset=utf-8"]),
    "a browser's Blob": (['filename="blob"'], ["Content-Type: application/json"]),
    "a text file": (['filename="a.txt"'], ["Content-Type: text/plain"]),
    "a file without a type": (['filename="a"'], []),
    "an empty filename": (['filename=""'], []),
    "a filename of another charset": (["filename*=UTF-8''a.txt"], []),
    "bytes as they are": ([], ["Content-Transfer-Encoding: binary"]),
    "written otherwise": (["names=a", 'namespace="b; name=c"'], ["CONTENT-TYPE: TEXT/Plain ; charset=utf8"]),
    "headers that mean nothing here": ([], ["Content-ID: <1>", "Content-Length: 3", "X-Any: thing"]),
}


@pytest.mark.anyio
@pytest.mark.parametrize("shape", GOOD_SHAPES)
async def test_a_text_field_counts_the_same_in_every_shape_of_text(
    client: httpx.AsyncClient, settler: Settler, shape: str
) -> None:
    parameters, headers = GOOD_SHAPES[shape]
    for name, value in VALUES.items():
        beside = [text(*BESIDE[name])] if name in BESIDE else []
        plain = await post(client, *PAIR, *beside, text(name, value))
        for sent in [value] if "json" not in str(headers).lower() else [value, json.dumps(value)]:
            sent_so = part(sent.encode(), named(name, *parameters), *headers)
            shaped = await post(client, *PAIR, *beside, sent_so)
            assert settled(settler, shaped) == settled(settler, plain), (name, sent)


@pytest.mark.anyio
async def test_all_fields_may_come_as_json_blobs_at_once(client: httpx.AsyncClient, settler: Settler) -> None:
    blobs = [
        part(value.encode(), named(name, 'filename="blob"'), "Content-Type: application/json")
        for name, value in (VALUES | {"prompt": '"a \\"red\\" ball"', "negative_prompt": "null"}).items()
    ]
    job = settled(settler, await post(client, *PAIR, *blobs))
    assert (job["prompt"], job["negative_prompt"], job["seed"], job["n"]) == ('a "red" ball', "", 5, 2)


@pytest.mark.anyio
async def test_a_json_part_of_adapters_is_read(client: httpx.AsyncClient) -> None:
    for parameters in ([], ['filename="blob"']):
        adapters = part(
            b'[{"name": "watercolour"}]', named("loras", *parameters), "Content-Type: application/json; charset=utf-8"
        )
        assert (
            "there is no 'watercolour'"
            in assert_problem(await post(client, *PAIR, adapters), 404, "unknown_lora")["detail"]
        )


BASE64 = "Content-Transfer-Encoding: base64"
BAD_SHAPES: dict[str, tuple[list[str], int, str, str]] = {  # the part's headers; NAME stands for the field's
    "base64": ([named("NAME"), BASE64], 422, "invalid_field", "NAME: Content-Transfer-Encoding 'base64' is not taken"),
    "no name": (["Content-Disposition: form-data"], 400, "malformed_request", '"name" must be provided'),
    "no disposition": (["Content-Type: text/plain"], 400, "malformed_request", '"name" must be provided'),
    "name* alone": (
        ["Content-Disposition: form-data; name*=utf-8''NAME"],
        400,
        "malformed_request",
        '"name" must be provided',
    ),
    "name and name*": ([named("NAME", "name*=utf-8''seed")], 400, "malformed_request", "several names"),
    "two names": ([named("NAME", 'name="seed"')], 400, "malformed_request", "several names"),
    "two dispositions": ([named("NAME"), named("seed")], 400, "malformed_request", "2 headers Content-Disposition"),
    "two types": (
        [named("NAME"), "Content-Type: text/plain", "Content-Type: image/png"],
        400,
        "malformed_request",
        "2 headers Content-Type",
    ),
    "an empty name": ([named("")], 422, "unknown_field", "There is no field ''"),
}
BAD_TEXTS: dict[str, tuple[list[str], int, str, str]] = {
    "a file of bytes": (
        [named("NAME", 'filename="a"'), "Content-Type: application/octet-stream"],
        422,
        "invalid_field",
        "NAME: this part is 'application/octet-stream'",
    ),
    "a picture": ([named("NAME"), "Content-Type: image/png"], 422, "invalid_field", "NAME: this part is 'image/png'"),
    "parts in a part": (
        [named("NAME"), "Content-Type: multipart/mixed; boundary=y"],
        422,
        "invalid_field",
        "NAME: this part is 'multipart/mixed'",
    ),
    "an unknown charset": (
        [named("NAME"), "Content-Type: text/plain; charset=utf-7"],
        415,
        "unsupported_charset",
        "NAME: 'utf-7' is not taken. Send UTF-8",
    ),
    "two charsets": (
        [named("NAME"), "Content-Type: text/plain; charset=utf-7; charset=utf-8"],
        415,
        "unsupported_charset",
        "NAME: a charset in this form is not taken. Send UTF-8",
    ),
    "a charset of RFC 2231": (
        [named("NAME"), "Content-Type: text/plain; charset*=us-ascii''utf-7"],
        415,
        "unsupported_charset",
        "NAME: a charset in this form is not taken. Send UTF-8",
    ),
}


async def assert_refused(
    client: httpx.AsyncClient, name: str, content: bytes, expected: tuple[list[str], int, str, str]
) -> None:
    headers, status, code, sentence = expected
    sent = part(content, *(header.replace("NAME", name) for header in headers))
    others = [pair for pair in PAIR if f'name="{name}"'.encode() not in pair]
    problem = assert_problem(await post(client, *others, sent), status, code)
    assert sentence.replace("NAME", name) in problem["detail"]


@pytest.mark.anyio
@pytest.mark.parametrize("shape", [*BAD_SHAPES, *BAD_TEXTS])
async def test_a_text_field_in_a_doubtful_shape_is_refused(
    client: httpx.AsyncClient, connection: Redis, shape: str
) -> None:
    for name, value in VALUES.items():
        if name != "seed":  # the other one of two names
            await assert_refused(client, name, value.encode(), (BAD_SHAPES | BAD_TEXTS)[shape])
    assert not our_keys(connection)


@pytest.mark.anyio
@pytest.mark.parametrize("shape", BAD_SHAPES)
async def test_a_file_in_a_doubtful_shape_is_refused(client: httpx.AsyncClient, connection: Redis, shape: str) -> None:
    for name, content in (("image", IMAGE), ("mask", MASK)):
        await assert_refused(client, name, content, BAD_SHAPES[shape])
    assert not our_keys(connection)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [100, 70_000, 3_000_000])
@pytest.mark.parametrize("headers", [[], ["Content-Type: image/png"], ["Content-Type: text/plain"]])
@pytest.mark.parametrize("parameter", [[], ["filename*=UTF-8''photo.png"]])
async def test_a_file_without_a_filename_is_refused_with_an_example_of_one(
    client: httpx.AsyncClient, size: int, headers: list[str], parameter: list[str]
) -> None:
    for name in ("image", "mask"):
        sent = part(b"x" * size, named(name, *parameter), *headers)
        problem = assert_problem(await post(client, sent), 422, "invalid_field")
        assert f"{name}: This field must be a file: give its part a filename" in problem["detail"]
        assert 'filename="photo.png"' in problem["detail"]


def test_a_large_file_without_a_filename_is_answered_over_the_wire(api: ApiProcess) -> None:
    with httpx.Client(base_url=api.url) as client:
        for _ in range(2):  # the second one on the connection of the first
            content = body(part(b"x" * 1_900_000, named("image")), PAIR[1])
            response = client.post("/v1/inpaint", content=content, headers={"content-type": KIND})
            assert "give its part a filename" in assert_problem(response, 422, "invalid_field")["detail"]


@pytest.mark.anyio
@pytest.mark.parametrize("headers", [[], ["Content-Type: text/plain"], ["Content-Type: application/x-any; charset=x"]])
@pytest.mark.parametrize("filename", ['filename="a.png"', 'filename=""', "filename=a", 'filename="ä.png"; filename*=a'])
async def test_a_file_is_its_bytes_whatever_its_part_says_of_them(
    client: httpx.AsyncClient, headers: list[str], filename: str
) -> None:
    sent = [part(content, named(name, filename), *headers) for name, content in (("image", IMAGE), ("mask", MASK))]
    assert (await post(client, *sent)).status_code == 202


@pytest.mark.anyio
async def test_text_is_decoded_by_the_charset_that_its_part_names(client: httpx.AsyncClient, settler: Settler) -> None:
    latin = part("blé".encode("latin-1"), named("prompt"), "Content-Type: text/plain; charset=iso-8859-1")
    assert settled(settler, await post(client, *PAIR, latin))["prompt"] == "blé"
    for charset in ("", "; charset=utf-8", '; charset="UTF-8"', ";CHARSET=utf8"):
        response = await post(client, *PAIR, text("prompt", "blé"), kind=KIND + charset)
        assert settled(settler, response)["prompt"] == "blé"
    unnamed = part("blé".encode("latin-1"), named("prompt"))
    problem = assert_problem(await post(client, *PAIR, unnamed), 422, "invalid_field")
    assert "prompt: the text is not utf-8" in problem["detail"]


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["{", '"a', '"\\ud800"', "[" * 60_000, "1" * 6000, "nul", "[5]"])
async def test_json_that_no_field_can_be_is_refused_by_name(client: httpx.AsyncClient, value: str) -> None:
    for name in ("loras", "seed"):
        sent = part(value.encode(), named(name), "Content-Type: application/json")
        assert name in assert_problem(await post(client, *PAIR, sent), 422, "invalid_field")["detail"]


@pytest.mark.anyio
async def test_a_prompt_of_half_a_character_is_refused_by_name(client: httpx.AsyncClient) -> None:
    sent = part(b'"\\ud800"', named("prompt"), "Content-Type: application/json")
    assert "prompt" in assert_problem(await post(client, *PAIR, sent), 422, "invalid_field")["detail"]


@pytest.mark.anyio
async def test_a_text_beyond_all_limits_is_refused_by_its_name(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await post(client, *PAIR, text("prompt", "x" * 65_537)), 422, "invalid_field")
    assert problem["detail"] == "prompt: the text is longer than 65536 bytes."
    assert_problem(await post(client, *PAIR, text("photo", "x" * 65_537)), 422, "unknown_field")


@pytest.mark.anyio
async def test_files_of_exactly_the_size_that_is_allowed_are_accepted(redis_url: str) -> None:
    image, mask = encoded(photo()), encoded(box_mask())
    limits = ApiSettings(redis_url=redis_url, max_image_bytes=len(image), max_mask_bytes=len(mask), max_pixels=64 * 48)
    async with serve(limits) as client:
        response = await client.post("/v1/inpaint", files=files(image, mask), data={"prompt": "é" * 2000})
        assert response.status_code == 202, response.text
        for larger in (files(image + b"x", mask), files(image, mask + b"x")):
            assert_problem(await client.post("/v1/inpaint", files=larger), 413, "too_large")


@pytest.mark.anyio
async def test_query_parameters_of_a_submission_are_refused_by_name(
    client: httpx.AsyncClient, connection: Redis
) -> None:
    problem = assert_problem(await post(client, *PAIR, query="?seed=5&preset=fast&seed=6"), 422, "invalid_field")
    assert problem["detail"].startswith("'seed', 'preset': sent in the address")
    assert "Send form fields" in problem["detail"]
    assert not our_keys(connection)


@pytest.mark.anyio
@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/metrics", "/v1/models", "/"])
async def test_query_parameters_of_a_look_change_nothing(client: httpx.AsyncClient, address: str) -> None:
    assert (await client.get(f"{address}?x=1")).status_code == (await client.get(address)).status_code


def test_a_body_that_is_cut_anywhere_is_never_accepted(api: ApiProcess, connection: Redis) -> None:
    """Its Content-Length is that of what came, as from a proxy or a client that has lost the rest."""
    whole = body(*PAIR, text("prompt", "a red ball"), text("seed", "5"))
    connected = http.client.HTTPConnection(api.url.removeprefix("http://"))
    for length in range(len(whole) - len(b"\r\n")):
        connected.request("POST", "/v1/inpaint", whole[:length], {"Content-Type": KIND})
        response = connected.getresponse()
        problem = json.loads(response.read())
        assert (response.status, problem["code"]) == (400, "malformed_request"), (length, problem)
    assert "cut short" in problem["detail"]
    assert not our_keys(connection)
    connected.request("POST", "/v1/inpaint", whole, {"Content-Type": KIND})
    assert connected.getresponse().status == 202
    connected.close()


def test_a_file_that_is_cut_at_a_boundary_of_chunks_is_not_accepted(api: ApiProcess, connection: Redis) -> None:
    whole = body(file("mask", MASK), file("image", IMAGE + b"x" * 300_000))

    def chunks() -> Any:
        yield from (whole[at : at + 65_536] for at in range(0, 262_144, 65_536))

    response = httpx.post(f"{api.url}/v1/inpaint", content=chunks(), headers={"content-type": KIND})
    assert "cut short" in assert_problem(response, 400, "malformed_request")["detail"]
    assert not our_keys(connection)
