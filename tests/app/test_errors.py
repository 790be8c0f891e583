"""Bad requests: a problem with the right code and a sentence that helps, and nothing left in Redis."""

import json
import re
from typing import Any

import httpx
import pytest
from redis import Redis

from app.main import create_app
from app.settings import ApiSettings
from jobs.schema import InpaintRequest
from tests.app.pictures import box_mask, photo
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import our_keys
from tests.app.submissions import files, submit
from tests.factories import encoded

pytestmark = pytest.mark.anyio

TINY = encoded(photo((8, 8)))


BAD_FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown field": ({"colour": "red"}, "unknown_field", "no field 'colour'. The fields are task, prompt, "),
    "field twice": ({"prompt": ["a", "b"]}, "invalid_field", "prompt: sent more than once"),
    "not a number": ({"num_inference_steps": "many"}, "invalid_field", "num_inference_steps: "),
    "out of range": ({"strength": "1.5"}, "invalid_field", "less than or equal to 1"),
    "zero strength": ({"strength": "0"}, "invalid_field", "greater than 0"),
    "infinite": ({"guidance_scale": "inf"}, "invalid_field", "finite"),
    "negative seed": ({"seed": "-1"}, "invalid_field", "seed: "),
    "seed of 33 bits": ({"seed": str(2**32)}, "invalid_field", "4294967295"),
    "too many images": ({"n": "9"}, "invalid_field", "n: "),
    "long prompt": ({"prompt": "x" * 2001}, "invalid_field", "2000"),
    "unknown mask mode": (
        {"mask_mode": "grey"},
        "invalid_field",
        "'white', 'black', 'alpha', 'alpha_inverted', 'auto' or 'drawn'",
    ),
    "unknown output": ({"output_format": "gif"}, "invalid_field", "'png', 'jpeg', 'webp' or 'avif'"),
    "quality of nothing": ({"output_quality": "90"}, "invalid_field", "send output_format: jpeg, webp, avif"),
    "quality of a PNG": (
        {"output_format": "png", "output_quality": "90"},
        "invalid_field",
        "output_quality: a PNG has",
    ),
    "no quality": ({"output_format": "jpeg", "output_quality": "0"}, "invalid_field", "output_quality: "),
    "too much quality": ({"output_format": "jpeg", "output_quality": "101"}, "invalid_field", "output_quality: "),
    "unknown preset": ({"preset": "slow"}, "invalid_field", "Known presets: fast"),
    "scheduler for flows": ({"scheduler": "flow_euler"}, "invalid_field", "of family 'sd'. Those that do: ddim, "),
    "too many steps for it": ({"scheduler": "lcm", "num_inference_steps": "60"}, "invalid_field", "takes 1 to 50"),
    "scheduler that ruins the model's pictures": (
        {"scheduler": "heun"},
        "invalid_field",
        "noise levels it cannot follow",
    ),
    "unknown scheduler": ({"scheduler": "magic"}, "invalid_field", "Known schedulers: ddim"),
}


@pytest.mark.parametrize("name", BAD_FIELDS)
async def test_a_bad_field_is_named_and_nothing_is_queued(
    client: httpx.AsyncClient, connection: Redis, name: str
) -> None:
    fields, code, sentence = BAD_FIELDS[name]
    problem = assert_problem(await submit(client, **fields), 422, code)
    assert sentence in problem["detail"]
    assert not our_keys(connection)


async def test_an_unknown_model_is_a_404_that_lists_the_known_ones(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await submit(client, model="dall-e"), 404, "unknown_model")
    assert "Known models: pocket" in problem["detail"]


BAD_FILES: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "no image": ({"mask": ("m", TINY)}, 422, "invalid_field", "image: This field is missing"),
    "no mask": ({"image": ("i", TINY)}, 422, "invalid_field", "mask: This field is missing"),
    "empty image": (files(b""), 422, "invalid_image", "image: the file is empty"),
    "empty mask": (files(mask=b""), 422, "invalid_mask", "mask: the file is empty"),
    "text for an image": (files(b"hello" * 100), 422, "invalid_image", "not a picture"),
    "text for a mask": (files(mask=b"hello" * 100), 422, "invalid_mask", "not a picture"),
    "truncated image": (files(encoded(photo())[:-3000]), 422, "invalid_image", "cut short"),
    "animated gif": (files(encoded(photo(), "GIF")), 422, "invalid_image", "PNG, JPEG, WebP, TIFF"),
    "mask of another size": (files(mask=TINY), 422, "mask_size_mismatch", "8 x 8 pixels and the image is 64 x 48"),
    "black mask": (files(mask=encoded(box_mask(box=(0, 0, 0, 0)))), 422, "empty_mask", "mask_mode=black"),
    "coloured mask": (files(mask=encoded(photo())), 422, "invalid_mask", "it has colours"),
    "large image": (files(encoded(photo((110, 100)))), 413, "too_large", "pixels are more than the 10000"),
    "large mask": (files(mask=encoded(photo((110, 100), "L"))), 413, "too_large", "mask: 110 x 100 pixels are more"),
    "heavy image": (files(b"x" * 60_001), 413, "too_large", "image: the file is larger than the 60000 bytes"),
    "heavy mask": (files(mask=b"x" * 50_001), 413, "too_large", "mask: the file is larger than the 50000 bytes"),
}


@pytest.fixture
def settings(redis_url: str) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, max_pixels=10_000, max_image_bytes=60_000, max_mask_bytes=50_000)


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_bad_file_is_named_and_nothing_is_queued(
    client: httpx.AsyncClient, connection: Redis, name: str
) -> None:
    form, status, code, sentence = BAD_FILES[name]
    problem = assert_problem(await client.post("/v1/inpaint", files=form), status, code)
    assert sentence in problem["detail"]
    assert not our_keys(connection)


async def test_every_wrong_field_is_listed(client: httpx.AsyncClient) -> None:
    problem = assert_problem(await submit(client, strength="2", n="0"), 422, "invalid_field")
    assert [error["field"] for error in problem["errors"]] == ["n", "strength"]


LIBRARYS = re.compile(r"Input|String should|Tuple|pars|instance|dictionary|EOF|ident|line \d|column|inputs|\['")
"""Words of pydantic, serde and Python, which a caller has not chosen."""

ODD_VALUES = (
    "x",
    "-1",
    "1.5",
    "nan",
    "1e400",
    "9" * 20,
    "9" * 5000,
    "{}",
    "[",
    "[1]",
    "[{}]",
    '[{"name": 1}]',
    '[{"name": "a", "scale": "x"}]',
    '[{"name": "a", "scale": 99}]',
    '[{"name": "a", "weight": 1}]',
    '[{"name": "a"}, {"name": "a"}]',
    '[{"name": ""}]',
    json.dumps([{"name": f"a{index}"} for index in range(9)]),
)


@pytest.mark.parametrize("value", ODD_VALUES, ids=range(len(ODD_VALUES)))
async def test_no_sentence_about_a_field_is_a_librarys(client: httpx.AsyncClient, value: str) -> None:
    texts: dict[str, Any] = dict.fromkeys([*InpaintRequest.model_fields, "on_disconnect"], value)
    problem = assert_problem(await submit(client, **texts), 422, "invalid_field")
    sentences = [error["message"] for error in problem["errors"]]
    assert sentences and [sentence for sentence in sentences if LIBRARYS.search(sentence)] == []
    assert all(sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("[", "loras: This field is not valid JSON. Send loras as in [{"),
        ("[1]", "loras.0: This must be a JSON object. Send loras as in [{"),
        ('[{"name": "a", "weight": 1}]', "loras.0.weight: There is no such field. Send loras as in [{"),
        ('[{"name": "a"}, {"name": "a"}]', "loras: Each adapter may come once; more than once: 'a'. Send loras as in"),
        (ODD_VALUES[-1], "loras: This list may have at most 8 items. Send loras as in [{"),
    ],
)
async def test_a_sentence_about_loras_shows_their_form(client: httpx.AsyncClient, value: str, sentence: str) -> None:
    problem = assert_problem(await submit(client, loras=value), 422, "invalid_field")
    assert problem["detail"].startswith(sentence)


async def test_an_image_sent_twice_is_refused(client: httpx.AsyncClient) -> None:
    form = [("image", ("a", TINY)), ("image", ("b", TINY)), ("mask", ("m", TINY))]
    problem = assert_problem(await client.post("/v1/inpaint", files=form), 422, "invalid_field")
    assert "image: sent more than once" in problem["detail"]


async def test_text_in_place_of_a_file_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/inpaint", data={"image": "hello"}, files={"mask": ("m", TINY)})
    assert "image: This field must be a file" in assert_problem(response, 422, "invalid_field")["detail"]


async def test_a_file_in_place_of_text_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/inpaint", files=files() | {"prompt": ("p", b"hello")})
    assert_problem(response, 422, "invalid_field")


@pytest.mark.parametrize("kind", ["application/problem+json", "application/x-www-form-urlencoded", "text/plain", ""])
async def test_another_kind_of_body_is_an_unsupported_media_type(client: httpx.AsyncClient, kind: str) -> None:
    response = await client.post("/v1/inpaint", content=b"{}", headers={"content-type": kind})
    assert "multipart/form-data" in assert_problem(response, 415, "unsupported_media_type")["detail"]


@pytest.mark.parametrize(
    ("boundary", "sentence"),
    [
        ("; boundary=x", "The body is not multipart/form-data with the boundary that its Content-Type names."),
        ("", "Content-Type: it names no boundary. Send multipart/form-data; boundary=..."),
    ],
)
async def test_a_broken_multipart_body_is_malformed(client: httpx.AsyncClient, boundary: str, sentence: str) -> None:
    headers = {"content-type": f"multipart/form-data{boundary}"}
    response = await client.post("/v1/inpaint", content=b"garbage", headers=headers)
    assert assert_problem(response, 400, "malformed_request")["detail"] == sentence


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_beyond_the_limit_is_a_problem_too(client: httpx.AsyncClient, chunked: bool) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="i"\r\n\r\n'

    async def body() -> Any:
        yield head
        for _ in range(30):
            yield b"a" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=x"}
    content = body() if chunked else head + b"a" * 3_000_000
    assert_problem(await client.post("/v1/inpaint", content=content, headers=headers), 413, "too_large")


async def test_a_form_with_very_many_parts_is_refused(client: httpx.AsyncClient) -> None:
    form = [(f"f{k}", ("f", b"x")) for k in range(11)]
    assert_problem(await client.post("/v1/inpaint", files=form), 400, "malformed_request")


async def test_an_accept_header_that_takes_neither_kind_queues_nothing(
    client: httpx.AsyncClient, connection: Redis
) -> None:
    assert_problem(await submit(client, {"Accept": "text/html"}), 406, "not_acceptable")
    assert not our_keys(connection)


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_an_idempotency_key_has_1_to_255_characters(client: httpx.AsyncClient, key: str) -> None:
    assert_problem(await submit(client, {"Idempotency-Key": key}), 422, "invalid_field")


async def test_unknown_addresses_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    assert_problem(await client.get("/nothing"), 404, "not_found")
    response = await client.put("/v1/models")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD"


PATHS: dict[str, set[str]] = {
    path: {method.upper() for method in methods}
    for path, methods in create_app(ApiSettings()).openapi()["paths"].items()
} | {"/": {"GET"}, "/docs": {"GET"}, "/docs/api.md": {"GET"}}


@pytest.mark.parametrize("path", PATHS)
async def test_allow_names_every_method_of_the_address(client: httpx.AsyncClient, path: str) -> None:
    methods = PATHS[path] | ({"HEAD"} if "GET" in PATHS[path] else set())
    response = await client.options(path)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == ", ".join(sorted(methods))


async def test_what_nobody_expected_is_a_500_that_tells_nothing(redis_url: str, connection: Redis) -> None:
    connection.sadd("infill:workers", "odd")
    connection.set("infill:worker:odd", '{"a": "no presence"}')
    async with serve(ApiSettings(redis_url=redis_url)) as client:
        problem = assert_problem(await client.get("/v1/workers"), 500, "internal_error")
    assert "presence" not in str(problem)


async def test_a_record_that_is_not_ours_is_not_shown(client: httpx.AsyncClient, connection: Redis) -> None:
    connection.hset("rq:job:stranger", mapping={"data": b"x", "origin": "other"})
    assert_problem(await client.get("/v1/jobs/stranger"), 404, "job_not_found")


async def test_the_given_request_id_comes_back_and_a_bad_one_is_replaced(client: httpx.AsyncClient) -> None:
    good = await client.get("/healthz", headers={"X-Request-ID": "abc-123"})
    bad = await client.get("/healthz", headers={"X-Request-ID": "a b\x7f"})
    assert good.headers["X-Request-ID"] == "abc-123"
    assert len(bad.headers["X-Request-ID"]) == 32


async def test_a_problems_type_can_be_looked_up(client: httpx.AsyncClient) -> None:
    problem = (await client.get("/nothing")).json()
    assert (await client.get(problem["type"])).json()["code"] == "not_found"
    assert (await client.get("/problems/queue_full")).json()["status"] == 429
    assert_problem(await client.get("/problems/nonsense"), 404, "not_found")


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "html"),
    [(BROWSER, True), ("text/html", True), ("*/*", False), ("application/json, text/html;q=0.5", False), ("", False)],
)
async def test_a_problems_type_is_a_page_for_a_browser(client: httpx.AsyncClient, accept: str, html: bool) -> None:
    answer = await client.get("/problems/queue_full", headers={"Accept": accept})
    assert answer.headers["Vary"] == "Accept" and "queue_full" in answer.text
    assert answer.headers["Content-Type"].startswith("text/html" if html else "application/json")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert_problem(await client.get("/problems/<b>", headers={"Accept": accept}), 404, "not_found")
