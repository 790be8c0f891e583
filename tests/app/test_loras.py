"""``loras`` and ``GET /v1/loras``: what is taken, what is refused, and that nothing of it needs the weights."""

import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from app.settings import ApiSettings
from jobs.lora_layers import width_key
from jobs.queue import JobQueue, parameters_of
from jobs.schema import LoraChoice
from tests.app.problems import assert_problem
from tests.app.serving import serve
from tests.app.settling import Settler, our_keys
from tests.app.submissions import submit
from tests.jobs.lora_files import pair, write

pytestmark = pytest.mark.anyio

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
WIDTHS = {width_key("network", LAYER.replace(".", "_")): (64, 64)}


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> ApiSettings:
    write(tmp_path / "watercolour.safetensors", pair(f"unet.{LAYER}", 64, 64))
    write(tmp_path / "ink.safetensors", pair(f"unet.{LAYER}", 32, 64))
    write(tmp_path / "poster.safetensors", pair("transformer.single_transformer_blocks.0.attn.to_q", 64, 64))
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    return ApiSettings(redis_url=redis_url, lora_dir=str(tmp_path))


@pytest.fixture
async def client(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings) as client:
        yield client


def asked(*choices: dict[str, Any]) -> str:
    return json.dumps(list(choices))


async def test_the_job_carries_names_and_scales(client: httpx.AsyncClient, settler: Settler) -> None:
    response = await submit(client, loras=asked({"name": "watercolour", "scale": 0.8}, {"name": "ink"}))
    assert response.status_code == 202, response.text
    parameters = parameters_of(settler.queue.job(response.json()["id"]))
    assert parameters.loras == (LoraChoice(name="watercolour", scale=0.8), LoraChoice(name="ink", scale=1.0))


@pytest.mark.parametrize("value", ["", "[]"])
async def test_no_adapters_is_the_default(client: httpx.AsyncClient, settler: Settler, value: str) -> None:
    response = await submit(client, loras=value)
    assert parameters_of(settler.queue.job(response.json()["id"])).loras == ()


BAD: dict[str, tuple[str, str, str]] = {
    "no JSON": ("watercolour", "invalid_field", "not valid JSON"),
    "cut JSON": ('[{"name": "ink"', "invalid_field", "not valid JSON"),
    "no list": ('{"name": "ink"}', "invalid_field", "loras: This field must be a list"),
    "no name": ('[{"scale": 1}]', "invalid_field", "loras.0.name: This field is missing"),
    "an unknown key": ('[{"name": "ink", "weight": 1}]', "invalid_field", "loras.0.weight"),
    "a scale that is no number": ('[{"name": "ink", "scale": "much"}]', "invalid_field", "loras.0.scale"),
    "an infinite scale": (
        '[{"name": "ink", "scale": Infinity}]',
        "invalid_field",
        "loras: Infinity: JSON has no",
    ),
    "a scale too large": ('[{"name": "ink", "scale": 10.5}]', "invalid_field", "less than or equal to 10"),
    "one twice": ('[{"name": "ink"}, {"name": "ink"}]', "invalid_field", "Each adapter may come once"),
    "too many": (json.dumps([{"name": f"l{k}"} for k in range(9)]), "invalid_field", "at most 8 items"),
    "an unknown name": ('[{"name": "oil"}]', "unknown_lora", "Known adapters: broken, ink, poster, watercolour"),
    "a way out": ('[{"name": "../watercolour"}]', "unknown_lora", "there is no '../watercolour'"),
    "another family": ('[{"name": "poster"}]', "lora_mismatch", "made for flux; model 'pocket' is sd"),
    "another width": ('[{"name": "ink"}]', "lora_mismatch", "32 -> 64 wide in the adapter and 64 -> 64 in the model"),
    "an unreadable file": ('[{"name": "broken"}]', "invalid_lora", "'broken' cannot be used: it is not a safetensors"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_cannot_be_used_is_refused_with_the_reason_and_nothing_is_queued(
    client: httpx.AsyncClient, connection: Redis, settings: ApiSettings, name: str
) -> None:
    JobQueue(connection, settings).store.known.put_widths("embedded", WIDTHS)
    value, code, sentence = BAD[name]
    problem = assert_problem(await submit(client, loras=value), 404 if code == "unknown_lora" else 422, code)
    assert sentence in problem["detail"]
    assert our_keys(connection) == {"infill:widths:embedded"}


async def test_a_width_is_refused_as_soon_as_the_models_are_known(
    client: httpx.AsyncClient, connection: Redis, settings: ApiSettings
) -> None:
    """Until a worker has loaded the model, only the family can be held against it."""
    assert (await submit(client, loras=asked({"name": "ink"}))).status_code == 202
    JobQueue(connection, settings).store.known.put_widths("embedded", WIDTHS)
    assert_problem(await submit(client, loras=asked({"name": "ink"})), 422, "lora_mismatch")
    assert (await submit(client, loras=asked({"name": "watercolour"}))).status_code == 202


async def test_the_list_says_what_each_fits(
    client: httpx.AsyncClient, connection: Redis, settings: ApiSettings
) -> None:
    JobQueue(connection, settings).store.known.put_widths("embedded", WIDTHS)
    found = {lora["name"]: lora for lora in (await client.get("/v1/loras")).json()["loras"]}
    assert list(found) == ["broken", "ink", "poster", "watercolour"]
    watercolour = found["watercolour"]
    assert (watercolour["families"], watercolour["models"]) == (["sd", "sdxl"], ["pocket"])
    assert (watercolour["rank"], watercolour["problem"]) == (2, None)
    assert watercolour["size_bytes"] == (Path(str(settings.lora_dir)) / "watercolour.safetensors").stat().st_size
    assert (found["ink"]["families"], found["ink"]["models"]) == (["sd", "sdxl"], [])
    assert (found["poster"]["families"], found["poster"]["models"]) == (["flux"], [])
    assert "not a safetensors file" in found["broken"]["problem"]


async def test_without_a_folder_there_are_none(redis_url: str) -> None:
    async with serve(ApiSettings(redis_url=redis_url)) as client:
        assert (await client.get("/v1/loras")).json() == {"loras": []}
        assert_problem(await submit(client, loras='[{"name": "ink"}]'), 404, "unknown_lora")


async def test_a_repeated_request_is_answered_though_its_adapter_has_gone(
    client: httpx.AsyncClient, settings: ApiSettings
) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await submit(client, headers, loras=asked({"name": "watercolour"}))
    other = await submit(client, headers, loras=asked({"name": "watercolour", "scale": 0.5}))
    assert_problem(other, 422, "idempotency_conflict")
    (Path(str(settings.lora_dir)) / "watercolour.safetensors").unlink()
    again = await submit(client, headers, loras=asked({"name": "watercolour"}))
    assert again.json()["id"] == first.json()["id"]


async def test_no_single_file_takes_the_list_down_and_bad_ones_cost_nothing_again(
    settings: ApiSettings, tmp_path: Path
) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.safetensors"
    write(outside, pair(f"unet.{LAYER}", 64, 64))
    (tmp_path / "linked.safetensors").symlink_to(outside)
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a-folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "a-pipe.safetensors")
    nested = b'{"__metadata__":{"lora_adapter_metadata":"' + b"[" * 100_000 + b'"}}'
    (tmp_path / "nested.safetensors").write_bytes(len(nested).to_bytes(8, "little") + nested)
    huge = b"{" + b" " * 20_000_000 + b"}"
    for k in range(5):
        (tmp_path / f"huge-{k}.safetensors").write_bytes(len(huge).to_bytes(8, "little") + huge + b"x" * 8)
    async with serve(settings) as client:
        spent = []
        for _ in range(2):
            began = time.process_time()
            answer = await client.get("/v1/loras")
            spent.append(time.process_time() - began)
    assert answer.status_code == 200
    shown = {lora["name"]: lora["problem"] for lora in answer.json()["loras"]}
    assert shown.keys() == {
        "broken",
        "ink",
        "linked",
        "nested",
        "poster",
        "watercolour",
        *(f"huge-{k}" for k in range(5)),
    }
    assert "a link that leads out of the folder" in shown["linked"]
    assert shown["watercolour"] is None and all(shown[name] for name in ("broken", "nested", "huge-0"))
    assert spent[1] < 0.5
