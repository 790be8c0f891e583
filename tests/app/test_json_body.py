"""A JSON body is the form that it stands for: the same fields, jobs, errors and idempotency; pictures in base64."""

import base64
import json
import os
import textwrap
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis

from app.extension import FIELDS as EXTEND
from app.inpaint_form import ADDRESSES, INPAINT, InpaintForm, InpaintJson
from app.json_bodies import MAX_REST_BYTES, MAX_TEXT_BYTES
from app.settings import ApiSettings
from jobs.mask_fields import MAX_POINTS
from jobs.queue import parameters_of
from tests.app.json_body import KIND, base64_of, document, post_json
from tests.app.multipart import FIND_A_SUBJECT, IMAGE, MASK, PAIR, body, text
from tests.app.multipart import KIND as FORM_KIND
from tests.app.problems import assert_problem
from tests.app.processes import spooled_by
from tests.app.serving import serve
from tests.app.settling import Settler, our_keys
from tests.factories import noise, png
from tests.png_files import with_chunks

pytestmark = pytest.mark.anyio

VALUES: dict[str, Any] = {
    "task": "fill",
    "prompt": "a red ball",
    "negative_prompt": "blur",
    "model": "pocket",
    "preset": "fast",
    "seed": 5,
    "n": 2,
    "num_inference_steps": 4,
    "guidance_scale": 1.5,
    "strength": 1,
    "scheduler": "euler",
    "mask_mode": "white",
    "mask_grow": 1,
    "mask_feather": 2,
    "crop": "off",
    "crop_padding": 8,
    "hires": "off",
    "cache_interval": 2,
    "prompt_syntax": "a1111",
    "masked_content": "noise",
    "output_format": "webp",
    "output_quality": 80,
    "on_disconnect": "continue",
    "loras": [],
    "mask_scale": "full",
    "mask_threshold": 0.5,
    "mask_box": [[0, 0, 3, 3]],
    "mask_polygon": [[1, 1], [9, 2], [5, 8.5]],
    "output_color": "rgb",
    "metadata": "keep_gps",
    "priority": "low",
    "bit_depth": "8",
}
"""A value of each field beside the pictures, of the type that JSON has for it."""


def test_the_fields_are_those_of_the_form() -> None:
    assert InpaintJson.model_fields.keys() == InpaintForm.model_fields.keys()
    elsewhere = ADDRESSES | FIND_A_SUBJECT | {*EXTEND}  # test_outgoing.py, test_extend.py and others have these
    assert VALUES.keys() == INPAINT.texts - elsewhere


async def as_form(client: httpx.AsyncClient, fields: dict[str, Any], **headers: str) -> httpx.Response:
    parts = [text(name, value if isinstance(value, str) else json.dumps(value)) for name, value in fields.items()]
    kind = {"Content-Type": FORM_KIND}
    return await client.post("/v1/inpaint", content=body(*PAIR, *parts), headers=kind | headers)


def settled(settler: Settler, response: httpx.Response) -> dict[str, Any]:
    """Parameters and inputs of the job that was made."""
    assert response.status_code == 202, response.text
    job_id = response.json()["id"]
    parameters = parameters_of(settler.queue.job(job_id)).model_dump(exclude={"seed"})
    return parameters | dict(settler.queue.store.inputs(job_id))


async def test_a_json_body_makes_the_job_of_the_form(client: httpx.AsyncClient, settler: Settler) -> None:
    for name, value in VALUES.items():
        fields = {name: value} | ({"output_format": "webp"} if name == "output_quality" else {})
        form, sent = await as_form(client, fields), await post_json(client, document(**fields))
        assert settled(settler, sent) == settled(settler, form), name
    all_at_once = await post_json(client, document(**VALUES))
    assert settled(settler, all_at_once) == settled(settler, await as_form(client, VALUES))
    assert all_at_once.json()["seeds"] == [5, 6]


async def test_null_and_an_empty_text_count_as_absent(client: httpx.AsyncClient, settler: Settler) -> None:
    plain = settled(settler, await post_json(client, document()))
    for nothing in (None, ""):
        assert settled(settler, await post_json(client, document(**dict.fromkeys(VALUES, nothing)))) == plain
        problem = assert_problem(await post_json(client, document(image=nothing)), 422, "invalid_field")
        assert problem["detail"] == "image: This field is missing."


SPELLINGS: dict[str, Callable[[bytes], str]] = {
    "base64": base64_of,
    "a data URL": lambda data: f"data:image/png;base64,{base64_of(data)}",
    "a data URL with parameters": lambda data: f" data:image/png;name=a.png;BASE64,{base64_of(data)}",
    "a data URL without a type": lambda data: f"Data:;base64,{base64_of(data)}",
    "in lines": lambda data: base64.encodebytes(data).decode(),
    "in lines that end with two characters": lambda data: "\r\n".join(textwrap.wrap(base64_of(data), 64)),
    "without padding": lambda data: base64_of(data).rstrip("="),
}
WRITTEN: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "as PHP writes it": lambda text: text.replace("/", "\\/"),
    "as .NET writes it": lambda text: text.replace("+", "\\u002B"),
    "every character escaped": lambda text: "".join(f"\\u{ord(character):04x}" for character in text),
}
SMALL = png(noise((12, 16, 3)))
LARGE = with_chunks(SMALL, (b"teSt", noise((70_001,), seed=1).tobytes()))
assert len(base64_of(SMALL)) < MAX_TEXT_BYTES < len(LARGE)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("photo", [SMALL, LARGE, LARGE + b"1", LARGE + b"12"], ids=["small", "large", "+1", "+2"])
async def test_a_picture_is_read_in_every_spelling(
    client: httpx.AsyncClient, settler: Settler, spelling: str, written: str, photo: bytes
) -> None:
    quoted = json.dumps(SPELLINGS[spelling](photo))[1:-1]
    if written == "every character escaped":
        quoted = SPELLINGS[spelling](photo)
    content = f'{{"image": "{WRITTEN[written](quoted)}", "mask": "{base64_of(MASK)}"}}'.encode()
    response = await post_json(client, content)
    assert response.status_code == 202, response.text
    assert settler.queue.store.inputs(response.json()["id"])["image"] == photo


@pytest.mark.parametrize("size", [1, 7, 65_535])
async def test_a_body_may_arrive_in_pieces_of_any_size(client: httpx.AsyncClient, settler: Settler, size: int) -> None:
    photo = LARGE if size > 1 else with_chunks(SMALL, (b"teSt", bytes(50_000)))
    content = json.dumps(document(image=base64_of(photo), prompt='a "b" \\ c \u00e9'), ensure_ascii=False)
    content = content.replace("/", "\\/")

    async def pieces() -> Any:
        data = content.encode()
        for at in range(0, len(data), size):
            yield data[at : at + size]

    response = await client.post("/v1/inpaint", content=pieces(), headers=KIND)
    assert settled(settler, response)["image"] == photo
    assert settled(settler, response)["prompt"] == 'a "b" \\ c \u00e9'


NO_BASE64 = "image: this is not base64."
BAD_PICTURES = {
    "an address": ("https://example.com/a.png", NO_BASE64),
    "a data URL of text": ("data:image/png,%89PNG", "image: the data URL is not in base64."),
    "the other alphabet": ("_-" + base64_of(IMAGE), NO_BASE64),
    "one character too many": (
        base64_of(IMAGE).rstrip("=") + "A" * (-len(base64_of(IMAGE).rstrip("=")) % 4 + 1),
        NO_BASE64,
    ),
    "data behind the padding": (base64_of(b"a") + base64_of(b"a"), NO_BASE64),
    "one of two padding characters": (base64_of(b"a")[:-1], NO_BASE64),
    "padding alone": ("====", NO_BASE64),
    "an emoji": ("\N{GRINNING FACE}" * 8, NO_BASE64),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
@pytest.mark.parametrize("large", [False, True])
async def test_what_is_no_base64_is_refused_by_name(
    client: httpx.AsyncClient, connection: Redis, name: str, large: bool
) -> None:
    picture, sentence = BAD_PICTURES[name]
    if large and "URL" not in name:
        picture = base64_of(bytes(99_999)) + picture
    problem = assert_problem(await post_json(client, document(image=picture)), 422, "invalid_field")
    assert problem["detail"].startswith(sentence)
    assert not our_keys(connection)


async def test_a_picture_that_is_empty_or_none_is_refused_as_a_file_is(client: httpx.AsyncClient) -> None:
    empty = await post_json(client, document(image="data:image/png;base64,"))
    assert "image: the file is empty" in assert_problem(empty, 422, "invalid_image")["detail"]
    none = await post_json(client, document(mask=base64_of(b"no picture")))
    assert "not a picture" in assert_problem(none, 422, "invalid_mask")["detail"]
    twice = await post_json(client, document(image=base64_of(base64_of(IMAGE).encode())))
    assert "text in base64" in assert_problem(twice, 422, "invalid_image")["detail"]


WRONG_TYPES: dict[str, tuple[dict[str, Any], str, str]] = {
    "a text for a number": ({"seed": "5"}, "seed", "This field must be a whole number."),
    "a fraction": ({"n": 1.5}, "n", "This field must be a whole number."),
    "true": ({"n": True}, "n", "This field must be a whole number."),
    "true for a fraction": ({"strength": True}, "strength", "This field must be a number."),
    "a number for a text": ({"prompt": 5}, "prompt", "This field must be text."),
    "an object": ({"guidance_scale": {}}, "guidance_scale", "This field must be a number."),
    "a list": ({"model": ["pocket"]}, "model", "This field must be text."),
    "a picture that is a list": ({"image": [1, 2]}, "image", "This field must be text."),
    "out of range": ({"n": 9}, "n", "This field must be less than or equal to 8."),
    "too long": ({"prompt": "x" * 2001}, "prompt", "This field's length must be at most 2000 characters."),
    "infinite": ({"strength": float("1e308") * 9}, "strength", ""),
    "another choice": ({"crop": "maybe"}, "crop", "This field must be 'auto' or 'off'."),
    "adapters as text": ({"loras": "[]"}, "loras", "This field must be a list."),
    "an adapter's scale as text": ({"loras": [{"name": "a", "scale": "1"}]}, "loras.0.scale", "must be a number."),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
async def test_a_wrong_type_is_refused_by_its_field(client: httpx.AsyncClient, name: str) -> None:
    fields, field, sentence = WRONG_TYPES[name]
    content = json.dumps(document(**fields)).replace("Infinity", "1e999").encode()
    problem = assert_problem(await post_json(client, content), 422, "invalid_field")
    assert problem["errors"][0]["field"] == field
    assert sentence in problem["errors"][0]["message"]


PICTURES = f'"image": "{base64_of(IMAGE)}", "mask": "{base64_of(MASK)}"'
BAD_BODIES: dict[str, tuple[str | bytes, int, str, str]] = {
    "an unknown field": (f'{{{PICTURES}, "colour": 1}}', 422, "unknown_field", "There is no field 'colour'."),
    "a field twice": (f'{{{PICTURES}, "n": 1, "n": 1}}', 422, "invalid_field", "n: sent more than once."),
    "the picture twice": (f"{{{PICTURES}, {PICTURES}}}", 422, "invalid_field", "image, mask: sent more than once."),
    "an adapter's field twice": (
        f'{{{PICTURES}, "loras": [{{"name": "a", "name": "b"}}]}}',
        422,
        "invalid_field",
        "name: sent more than once.",
    ),
    "not a number": (f'{{{PICTURES}, "strength": NaN}}', 422, "invalid_field", "NaN: JSON has no such number."),
    "infinity": (f'{{{PICTURES}, "loras": [-Infinity]}}', 422, "invalid_field", "-Infinity: JSON has no such number."),
    "many digits": (f'{{{PICTURES}, "seed": {"9" * 5000}}}', 422, "invalid_field", "too many digits"),
    "digits that no number holds": (f'{{{PICTURES}, "seed": {"9" * 300}}}', 422, "invalid_field", "seed: "),
    "half of a character": (f'{{{PICTURES}, "prompt": "\\ud800"}}', 422, "invalid_field", "half of a character"),
    "nesting": (f'{{{PICTURES}, "loras": {"[" * 100_000}', 400, "malformed_request", "nested too deeply"),
    "nesting that is closed": (
        f'{{{PICTURES}, "prompt": {"[" * 300}{"]" * 300}}}',
        422,
        "invalid_field",
        "nested too deeply",
    ),
    "objects in objects": ('{"loras":' * 50_000, 400, "malformed_request", "nested too deeply"),
    "a list": ("[]", 400, "malformed_request", "not an object"),
    "a text": ('"image"', 400, "malformed_request", "not an object"),
    "nothing": ("", 400, "malformed_request", "not JSON"),
    "cut short": (f"{{{PICTURES}", 400, "malformed_request", "not JSON"),
    "cut short in a text": (f'{{{PICTURES}, "prompt": "a', 400, "malformed_request", "not JSON"),
    "cut short in a picture": ('{"image": "' + "A" * 70_000, 400, "malformed_request", "not JSON"),
    "cut short in an escape": (f'{{{PICTURES}, "prompt": "\\', 400, "malformed_request", "not JSON"),
    "a comma too many": (f"{{{PICTURES},}}", 400, "malformed_request", "not JSON"),
    "two objects": (f"{{{PICTURES}}}{{}}", 400, "malformed_request", "not JSON"),
    "a form": ("prompt=a&n=1", 400, "malformed_request", "not JSON"),
    "a raw end of line in a text": (f'{{{PICTURES}, "prompt": "a\nb"}}', 400, "malformed_request", "not JSON"),
    "another encoding": ('{"prompt": "\xe9"}'.encode("latin-1"), 400, "malformed_request", "not UTF-8"),
    "two bytes a character": ("{}".encode("utf-16"), 400, "malformed_request", "not UTF-8"),
    "a long text": (f'{{{PICTURES}, "prompt": "{"a" * 65_537}"}}', 422, "invalid_field", "longer than 65536 bytes"),
    "a long name": (f'{{{PICTURES}, "{"a" * 70_000}": 1}}', 422, "unknown_field", "There is no field"),
    "a long adapter": (
        f'{{{PICTURES}, "loras": [{{"name": "{"a" * 70_000}"}}]}}',
        422,
        "invalid_field",
        "longer than 65536 bytes",
    ),
    "many long texts": ("[" + ", ".join(['"' + "a" * 70_000 + '"'] * 11), 422, "invalid_field", "more than 10 texts"),
    "blanks": ("{" + " " * MAX_REST_BYTES, 422, "invalid_field", "without its pictures"),
    "short texts": ('"a",' * (MAX_REST_BYTES // 3), 422, "invalid_field", "without its pictures"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_body_is_refused_in_a_sentence(client: httpx.AsyncClient, connection: Redis, name: str) -> None:
    content, status, code, sentence = BAD_BODIES[name]
    data = content.encode() if isinstance(content, str) else content
    problem = assert_problem(await post_json(client, data), status, code)
    assert sentence in problem["detail"]
    assert "long text" not in problem["detail"] or name == "a long name"
    assert not our_keys(connection)


async def test_names_of_an_adapter_may_not_come_twice_in_the_form_either(client: httpx.AsyncClient) -> None:
    response = await as_form(client, {"loras": '[{"name": "a", "name": "b"}]'})
    assert "name: sent more than once." in assert_problem(response, 422, "invalid_field")["detail"]


async def test_a_byte_order_mark_is_passed_over(client: httpx.AsyncClient) -> None:
    response = await post_json(client, b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert response.status_code == 202, response.text


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("application/json; charset=utf-8", 202, ""),
        ("Application/JSON ; Charset=UTF8", 202, ""),
        ("application/json; charset=utf-16", 415, "unsupported_charset"),
        ("application/json; charset*=utf-8", 415, "unsupported_charset"),
        ("text/json", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        ("application/json-patch+json", 415, "unsupported_media_type"),
    ],
)
async def test_the_content_type_is_read_as_a_forms_is(
    client: httpx.AsyncClient, kind: str, status: int, code: str
) -> None:
    response = await post_json(client, document(), **{"Content-Type": kind})
    assert response.status_code == status, response.text
    assert response.json().get("code", "") == code


async def test_a_compressed_body_and_query_parameters_are_refused(client: httpx.AsyncClient) -> None:
    zipped = await post_json(client, document(), **{"Content-Encoding": "gzip"})
    assert_problem(zipped, 415, "unsupported_encoding")
    response = await client.post("/v1/inpaint?n=2", json=document())
    assert_problem(response, 422, "invalid_field")


async def test_a_repeated_body_is_answered_with_the_first_job_in_either_form(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "order-67"}
    fields = {"prompt": "a", "n": 2, "loras": []}
    first = await post_json(client, document(**fields), **key)
    again = await post_json(client, document(**fields) | {"mask": f"data:;base64,{base64_of(MASK)}"}, **key)
    form = await as_form(client, fields, **key)
    assert {answer.json()["id"] for answer in (again, form)} == {first.json()["id"]}
    assert again.headers["Idempotency-Replayed"] == form.headers["Idempotency-Replayed"] == "true"
    for changed in ({"prompt": "b"}, {"n": 3}, {"image": base64_of(png(noise((12, 16, 3), seed=9)))}):
        other = await post_json(client, document(**fields | changed), **key)
        assert_problem(other, 422, "idempotency_conflict")


async def test_it_waits_and_leaves_as_a_form_does(client: httpx.AsyncClient) -> None:
    waited = await post_json(client, document(on_disconnect="cancel"), Prefer="wait=1")
    assert (waited.status_code, waited.json()["status"]) == (202, "queued")
    assert_problem(await post_json(client, document(on_disconnect="cancel")), 422, "invalid_field")


@pytest.fixture
def tight(settings: ApiSettings) -> ApiSettings:
    return settings.model_copy(update={"max_image_bytes": 300_000, "max_mask_bytes": 300_000})


def sized(count: int) -> bytes:
    return with_chunks(SMALL, (b"teSt", bytes(count - len(SMALL) - 12)))


async def test_the_largest_files_fit_in_base64_and_larger_ones_are_refused(tight: ApiSettings) -> None:
    fits, beyond = (base64_of(sized(count)) for count in (300_000, 300_001))
    async with serve(tight) as client:
        assert len(fits) > 300_000
        response = await post_json(client, document(image=fits, mask=base64_of(with_chunks(MASK, (b"teSt", bytes(1))))))
        assert response.status_code == 202, response.text
        assert_problem(await post_json(client, document(image=beyond)), 413, "too_large")
        assert_problem(await post_json(client, b" " * (tight.max_body_bytes + 1)), 413, "too_large")


async def test_json_writes_that_end_in_an_error_leave_no_file_open(client: httpx.AsyncClient) -> None:
    before = spooled_by(os.getpid())
    await post_json(client, document(image=base64_of(sized(3_000_000)), mask="?"))
    await post_json(client, document(image=base64_of(sized(3_000_000)), colour=1))
    await post_json(client, json.dumps(document(image=base64_of(sized(3_000_000)))).encode()[:-1])
    assert spooled_by(os.getpid()) == before


# ---- what a refusal costs


NAMES = ", ".join(f'"{number}": 1' for number in range(70_000))
MANY = {
    "names": f'{{{NAMES}, "0": 1}}',
    "polygons": f'{{{PICTURES}, "mask_polygon": [{", ".join(["[]"] * 200_000)}]}}',
    "points": f'{{{PICTURES}, "mask_polygon": [[{", ".join(["[]"] * 200_000)}]]}}',
    "names of an adapter": f'{{{PICTURES}, "loras": [{{{NAMES}}}]}}',
    "a long name of an adapter": f'{{{PICTURES}, "loras": [{{"{"a" * 60_000}": 1}}]}}',
}


@pytest.mark.parametrize("name", MANY)
async def test_a_refusal_of_many_faults_is_short_and_cheap(client: httpx.AsyncClient, name: str) -> None:
    began = time.process_time()
    answer = await post_json(client, MANY[name].encode())
    assert time.process_time() - began < 3
    assert_problem(answer, 422, "invalid_field")
    assert len(answer.content) < 5_000


async def test_the_first_faults_are_listed_and_the_others_counted(client: httpx.AsyncClient) -> None:
    names = ", ".join(f'"x{number}": 1' for number in range(30))
    problem = assert_problem(
        await post_json(client, f'{{{PICTURES}, "loras": [{{"name": "a", {names}}}]}}'.encode()), 422, "invalid_field"
    )
    assert [each["field"] for each in problem["errors"]] == [f"loras.0.x{number}" for number in range(10)]
    assert problem["detail"].endswith(" And 20 more faults.")


async def test_points_beyond_a_polygons_limit_are_not_read(client: httpx.AsyncClient) -> None:
    points: list[Any] = [[1, 2]] * (MAX_POINTS + 1)
    answer = await post_json(client, document(mask_polygon=[[*points, "no point"]]))
    assert f"at most {MAX_POINTS} items" in assert_problem(answer, 422, "invalid_field")["detail"]
