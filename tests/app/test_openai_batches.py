"""OpenAI's batches of image edits: its own package against the app, and what is refused, in its form."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs.api_keys import ApiKeys, Scope
from tests.app.pictures import box_mask, photo
from tests.app.serving import serve
from tests.app.settling import Settler
from tests.factories import encoded

pytestmark = pytest.mark.anyio

PHOTO, MASK = (
    "data:image/png;base64," + base64.b64encode(encoded(picture)).decode() for picture in (photo(), box_mask())
)
ASKED: dict[str, Any] = {"endpoint": "/v1/images/edits", "completion_window": "24h"}


def line(custom_id: str, **fields: Any) -> dict[str, Any]:
    body = {"model": "gpt-image-1", "prompt": "sea", "images": [{"image_url": PHOTO}], "mask": {"image_url": MASK}}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/images/edits", "body": body | fields}


def lines(*rows: object) -> tuple[str, bytes]:
    return "in.jsonl", b"\n".join(json.dumps(row).encode() for row in rows)


def caller(client: Any, key: str = "unused") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url="http://api/v1", api_key=key, max_retries=0, http_client=client)


@pytest.fixture
async def api(client: httpx.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    yield caller(client)


async def test_lines_of_a_file_become_edits_and_their_ends_an_output_and_an_error_file(
    api: openai.AsyncOpenAI, settler: Settler
) -> None:
    broken = line("b", images=[{"image_url": base64.b64encode(b"no picture").decode()}])
    file = await api.files.create(file=lines(line("a", quality="high"), broken), purpose="batch")
    assert (file.filename, file.purpose) == ("in.jsonl", "batch")
    made = await api.batches.with_raw_response.create(input_file_id=file.id, metadata={"of": "me"}, **ASKED)
    batch = made.parse()
    assert made.headers["Infill-Ignored"] == "quality"
    assert (batch.status, batch.input_file_id, batch.metadata) == ("in_progress", file.id, {"of": "me"})
    assert (await api.files.content(file.id)).text.count("\n") == 1
    assert (await api.files.retrieve(file.id)).bytes == file.bytes
    assert (await api.files.delete(file.id)).deleted
    async with asyncio.timeout(15):
        while batch.status != "completed":
            await asyncio.sleep(0.02)
            if settler.queue.rq.count:
                settler.succeed(settler.take().id, [encoded(photo())])
            batch = await api.batches.retrieve(batch.id)
    assert batch.request_counts and batch.completed_at
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    assert batch.output_file_id and batch.error_file_id
    (row,) = [json.loads(text) for text in (await api.files.content(batch.output_file_id)).text.splitlines()]
    assert (row["custom_id"], row["error"], row["response"]["status_code"]) == ("a", None, 200)
    assert base64.b64decode(row["response"]["body"]["data"][0]["b64_json"]).startswith(b"\x89PNG")
    (row,) = [json.loads(text) for text in (await api.files.content(batch.error_file_id)).text.splitlines()]
    assert (row["custom_id"], row["response"], row["error"]["code"]) == ("b", None, "invalid_image")


async def test_a_batch_can_be_cancelled(api: openai.AsyncOpenAI) -> None:
    file = await api.files.create(file=lines(line("a")), purpose="batch")
    batch = await api.batches.create(input_file_id=file.id, **ASKED)
    batch = await api.batches.cancel(batch.id)
    async with asyncio.timeout(15):
        while batch.status != "cancelled":
            await asyncio.sleep(0.02)
            batch = await api.batches.retrieve(batch.id)
    assert batch.cancelled_at and batch.error_file_id
    assert json.loads((await api.files.content(batch.error_file_id)).text)["custom_id"] == "a"


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (line("a") | {"url": "/v1/chat/completions"}, "method, url"),
        (line("a") | {"method": "GET"}, "method, url"),
        (line("a") | {"seed": 1}, "'seed'"),
        (line("a") | {"body": 1}, "body"),
        (line("a", stream=True), "stream"),
        (line("a", size="8x8"), "size"),
        (line("a", response_format="url"), "response_format"),
        (line("a", images=[]), "image"),
        (line("../a"), "custom_id"),
    ],
)
async def test_a_line_that_cannot_be_taken_is_named(api: openai.AsyncOpenAI, row: object, named: str) -> None:
    file = await api.files.create(file=lines(line("fine"), row), purpose="batch")
    with pytest.raises(openai.BadRequestError) as caught:
        await api.batches.create(input_file_id=file.id, **ASKED)
    assert "line 2: " in caught.value.message and named in caught.value.message


async def test_what_a_batch_or_a_file_cannot_be_is_refused(api: openai.AsyncOpenAI) -> None:
    file = await api.files.create(file=lines(line("a")), purpose="batch")
    for wrong in ({"endpoint": "/v1/responses"}, {"completion_window": "1h"}, {"metadata": {"a": "b" * 513}}):
        with pytest.raises(openai.BadRequestError):
            await api.batches.create(**({"input_file_id": file.id} | ASKED | wrong))
    with pytest.raises(openai.BadRequestError, match="'output_expires_after'"):
        await api.batches.create(
            input_file_id=file.id, output_expires_after={"anchor": "created_at", "seconds": 3600}, **ASKED
        )
    with pytest.raises(openai.BadRequestError, match="purpose"):
        await api.files.create(file=lines(line("a")), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="not empty"):
        await api.files.create(file=("in.jsonl", b""), purpose="batch")
    for call in (api.files.retrieve, api.files.content, api.files.delete):
        with pytest.raises(openai.NotFoundError, match="There is no file"):
            await call("file-0")
    with pytest.raises(openai.NotFoundError, match="There is no file"):
        await api.batches.create(input_file_id=f"file-{'0' * 32}", **ASKED)
    with pytest.raises(openai.NotFoundError, match="There is no batch"):
        await api.batches.retrieve(f"batch_edits_{'0' * 32}")


async def test_a_caller_has_so_many_files(settings: ApiSettings) -> None:
    async with serve(settings.model_copy(update={"caller_batches": 1})) as client:
        api = caller(client)
        file = await api.files.create(file=lines(line("a")), purpose="batch")
        with pytest.raises(openai.RateLimitError, match="may have no more"):
            await api.files.create(file=lines(line("b")), purpose="batch")
        await api.files.delete(file.id)
        await api.files.create(file=lines(line("b")), purpose="batch")


async def test_another_tenants_files_and_batches_are_not_found(settings: ApiSettings, connection: Redis) -> None:
    scopes: tuple[Scope, ...] = ("submit", "read")
    keys = [ApiKeys(connection).create(tenant, scopes)[0] for tenant in ("one", "two")]
    async with serve(settings.model_copy(update={"auth": "on"})) as client:
        one, two = (caller(client, key) for key in keys)
        file = await one.files.create(file=lines(line("a")), purpose="batch")
        batch = await one.batches.create(input_file_id=file.id, **ASKED)
        assert [each.id for each in (await one.files.list()).data] == [file.id]
        assert (await two.files.list()).data == []
        made = f"file-edits-{batch.id.removeprefix('batch_edits_')}-output"
        for call, name in (
            *((each, file.id) for each in (two.files.retrieve, two.files.content, two.files.delete)),
            *((each, batch.id) for each in (two.batches.retrieve, two.batches.cancel)),
            (two.files.content, made),
        ):
            with pytest.raises(openai.NotFoundError):
                await call(name)
        with pytest.raises(openai.NotFoundError):
            await two.batches.create(input_file_id=file.id, **ASKED)
