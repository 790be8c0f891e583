"""Decoding in child processes: what a hostile file costs ends there, and ordinary ones go on."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from app.decoding import Decoders, sandbox_for
from app.settings import ApiSettings
from app.uploads import Size
from jobs.errors import DecodersBusy, InvalidImage, InvalidMask
from jobs.sandbox.pool import Sandbox
from tests.app.pictures import BOX, SIZE, box_mask, photo
from tests.app.problems import assert_problem
from tests.app.submissions import files, submit
from tests.factories import encoded, noise

pytestmark = pytest.mark.anyio

SLOW = encoded(Image.fromarray(noise((3000, 4000, 3))), "WEBP", quality=90)
"""Takes a few tenths of a second to decode."""


@pytest.fixture
def hasty(redis_url: str) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, decode_cpu_s=0.1, decode_threads=1)


@pytest.fixture
def sandbox(hasty: ApiSettings) -> Iterator[Sandbox]:
    made = sandbox_for(hasty)
    yield made
    made.close()


async def size_of(decoders: Decoders, data: bytes) -> Size:
    async with decoders.turn():
        return (await decoders.image(data)).size


async def test_a_file_that_takes_too_long_is_refused_and_the_next_one_is_read(
    hasty: ApiSettings, sandbox: Sandbox
) -> None:
    decoders = Decoders(hasty, sandbox)
    with pytest.raises(InvalidImage, match="image: the file cannot be decoded with the time and memory"):
        await decoders.image(SLOW)
    with pytest.raises(InvalidMask, match="mask: the file cannot be decoded with the time and memory"):
        await decoders.mask(SLOW, "white", "full", (4000, 3000))
    assert (await decoders.image(encoded(photo()))).size == SIZE
    mask = await decoders.mask(encoded(box_mask()), "white", "full", SIZE)
    assert mask.report.bbox == BOX and mask.png == encoded(box_mask()) and mask.leaves_known


async def test_callers_who_find_no_free_decoder_in_time_are_refused(hasty: ApiSettings) -> None:
    patient = hasty.model_copy(update={"decode_cpu_s": 20.0, "decode_wait_s": 0.01})
    decoders = Decoders(patient)
    decoders.start()
    try:
        while True:
            try:
                await size_of(decoders, encoded(photo()))
                break
            except DecodersBusy:  # it is being started
                await asyncio.sleep(0.05)
        found = await asyncio.gather(*(size_of(decoders, SLOW) for _ in range(4)), return_exceptions=True)
    finally:
        decoders.close()
    assert [type(one) for one in found].count(DecodersBusy) == 3
    assert (4000, 3000) in found


async def test_a_file_of_countless_parts_is_a_422_that_names_them(client: httpx.AsyncClient) -> None:
    jpeg = encoded(photo(), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    hostile = jpeg[:-2] + 200 * scan + b"\xff\xd9"
    for name, form in {"image": files(hostile), "mask": files(mask=hostile)}.items():
        response = await client.post("/v1/inpaint", files=form)
        assert_problem(response, 422, f"invalid_{name}")
        assert f"{name}: the file has more than 100 scans" in response.json()["detail"]
    assert (await submit(client)).status_code == 202
