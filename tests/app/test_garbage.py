"""Whatever is uploaded, the answer is a 202 or a 4xx problem; never a 5xx, and never a job by accident."""

import asyncio

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from app.settings import ApiSettings
from tests.app.pictures import box_mask, photo, with_orientation
from tests.app.serving import serve
from tests.app.settling import our_keys
from tests.factories import encoded, multipart

SEEDS = [
    encoded(photo((16, 12))),
    encoded(photo((16, 12), "RGBA")),
    encoded(photo((16, 12)).quantize(8), transparency=2),
    encoded(photo((16, 12)), "JPEG"),
    encoded(photo((16, 12), "CMYK"), "JPEG"),
    with_orientation(photo((16, 12)), 6),
    with_orientation(photo((16, 12)), 6, "PNG"),
    encoded(photo((16, 12)), "WEBP"),
    encoded(photo((16, 12)), "TIFF"),
    encoded(photo((16, 12)), "TIFF", compression="tiff_lzw"),
    encoded(photo((16, 12)), "GIF"),
]
GOOD_IMAGE = encoded(photo((16, 12)))
GOOD_MASK = encoded(box_mask((16, 12), (2, 2, 9, 9)))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real file with some bytes changed, cut out or cut off."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["change", "cut out", "cut off"])):
            case "change":
                data[at] = draw(st.integers(0, 255))
            case "cut out":
                del data[at : at + draw(st.integers(1, 20))]
            case "cut off":
                del data[max(1, at) :]
        data = data or bytearray(b"x")
    return bytes(data)


FILES = st.one_of(damaged(), st.binary(max_size=300), st.sampled_from(SEEDS))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
KNOWN = st.sampled_from(["prompt", "seed", "n", "strength", "mask_mode", "preset", "loras", "on_disconnect"])
FIELDS = st.dictionaries(st.one_of(KNOWN, NAMES), NAMES)


async def post(url: str, form: dict[str, tuple[str, bytes]], fields: dict[str, str]) -> httpx.Response:
    async with serve(ApiSettings(redis_url=url)) as client:
        return await client.post("/v1/inpaint", files=form, data=fields)


def check(response: httpx.Response, connection: Redis) -> None:
    assert response.status_code == 202 or 400 <= response.status_code < 500, response.text
    if response.status_code != 202:
        assert response.json()["code"]
        assert not our_keys(connection)
    connection.flushall()


property_test = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.parametrize("which", ["image", "mask"])
@property_test
@given(data=FILES)
def test_a_file_of_any_bytes_is_accepted_or_refused(redis_url: str, connection: Redis, which: str, data: bytes) -> None:
    good = multipart(GOOD_IMAGE, GOOD_MASK)
    check(asyncio.run(post(redis_url, good | {which: ("x", data)}, {})), connection)


@property_test
@given(fields=FIELDS)
def test_fields_of_any_text_are_accepted_or_refused(redis_url: str, connection: Redis, fields: dict[str, str]) -> None:
    good = multipart(GOOD_IMAGE, GOOD_MASK)
    check(asyncio.run(post(redis_url, good, fields)), connection)


PIECES = st.sampled_from(
    [
        b"--x\r\n",
        b"--x--\r\n",
        b"\r\n",
        b'Content-Disposition: form-data; name="image"; filename="a"\r\n',
        b'Content-Disposition: form-data; name="prompt"\r\n',
        b"Content-Disposition: form-data\r\n",
        b"Content-Type: image/png\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
    ]
)


async def post_raw(url: str, body: bytes, kind: str) -> httpx.Response:
    async with serve(ApiSettings(redis_url=url)) as client:
        return await client.post("/v1/inpaint", content=body, headers={"content-type": kind})


@property_test
@given(
    pieces=st.lists(st.one_of(PIECES, st.binary(max_size=30)), max_size=12),
    kind=st.sampled_from(
        ["multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; charset=utf-7"]
    ),
)
def test_a_body_of_any_bytes_is_refused(redis_url: str, connection: Redis, pieces: list[bytes], kind: str) -> None:
    response = asyncio.run(post_raw(redis_url, b"".join(pieces), kind))
    assert response.status_code != 202
    check(response, connection)
