"""Words in place of a mask, through the queue to a worker that has no room for segmenter and model at once."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from jobs.catalog import load_catalog
from tests.e2e.stack import PHOTO, Stack, result_of, wait_for
from tests.redis_server import RedisServer
from tests.worker import segmenters, tiny
from worker.families.clipseg import read_clipseg
from worker.models.loading import Loader
from worker.settings import WorkerSettings

ENTRY = """
[models.small]
family = "sd"
source = "{source}"
num_inference_steps = 2
guidance_scale = 1.0
scheduler = "euler"
size_px = 64
max_size_px = 64
"""


def pixels(data: bytes, mode: str = "RGB") -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.pipeline("sd", "concat", "euler").save_pretrained(folder / "small")
    found = segmenters.save(folder / "words", pixels(PHOTO.read_bytes()))
    table = [("words", 0.6), ("strict", 1.0)]
    file = folder / "catalog.toml"
    entries = [segmenters.TABLE.format(name=name, source=found, least_score=least) for name, least in table]
    file.write_text(ENTRY.format(source=folder / "small") + "".join(entries))
    return file


@pytest.fixture(scope="module")
def stack(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder, found = tmp_path_factory.mktemp("e2e"), load_catalog(str(catalog))
    loader = Loader(WorkerSettings(device="cpu"))
    sizes = [loader.read("small", found.models["small"]).size_bytes]
    sizes.append(loader.read("words", found.segmenters["words"]).size_bytes)
    env = {"INFILL_CATALOG": str(catalog), "INFILL_MODEL_BUDGET_BYTES": str(max(sizes))}
    with RedisServer(folder, append_only=True) as server, Stack(server.url, folder, **env) as made:
        made.start_api()
        made.start_worker()
        made.wait_until_ready()
        yield made


def post(client: httpx.Client, **fields: str) -> dict[str, Any]:
    answer = client.post("/v1/inpaint", files={"image": PHOTO.read_bytes()}, data={"seed": "1", **fields})
    assert answer.status_code == 202, answer.text
    return wait_for(client, answer.json()["id"])


def test_what_words_name_is_repainted_and_nothing_else(client: httpx.Client, catalog: Path) -> None:
    words = {"mask_prompt": segmenters.WORDS, "mask_model": "words"}
    job = post(client, **words)
    assert (job["status"], job["attempt"], job["mask"]["changed_outside_mask"]) == ("succeeded", 1, 0), job
    photo, used = pixels(PHOTO.read_bytes()), client.get(f"{job['url']}/mask")
    mask, result = pixels(used.content, "L"), pixels(result_of(client, job))
    segmenter = read_clipseg("words", load_catalog(str(catalog)).segmenters["words"])
    assert max(photo.shape) <= 1024, "it is seen as it is"
    logits = segmenter.find(photo, segmenters.WORDS)
    expected = Image.fromarray(logits).resize(photo.shape[1::-1], Image.Resampling.BILINEAR)
    assert ((mask > 0) == (np.asarray(expected) > 0)).mean() > 0.99
    assert np.array_equal(result[mask == 0], photo[mask == 0]) and (result != photo).any()
    rows, columns = np.nonzero(mask)
    assert job["mask"]["bbox"] == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert job["mask"]["coverage"] == pytest.approx((mask > 0).mean(), abs=1e-6)
    assert (job["mask"]["prompt"], job["mask"]["model"]) == (segmenters.WORDS, "words")
    assert job["mask"]["score"] > 0.6
    assert client.get(f"{job['url']}/mask", headers={"If-None-Match": used.headers["ETag"]}).status_code == 304


def test_the_same_mask_as_a_file_gives_the_same_picture(client: httpx.Client) -> None:
    job = post(client, mask_prompt=segmenters.WORDS, mask_model="words", mask_grow="4", mask_feather="6")
    files = {"image": PHOTO.read_bytes(), "mask": client.get(f"{job['url']}/mask").content}
    answer = client.post("/v1/inpaint", files=files, data={"seed": "1", "mask_grow": "4", "mask_feather": "6"})
    drawn = wait_for(client, answer.json()["id"])
    assert drawn["mask"]["bbox"] == job["mask"]["bbox"]
    assert np.array_equal(pixels(result_of(client, drawn)), pixels(result_of(client, job)))


def test_a_doubtful_answer_fails_the_job_with_its_score_and_the_worker_goes_on(client: httpx.Client) -> None:
    job = post(client, mask_prompt=segmenters.WORDS, mask_model="strict")
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("failed", 1, "mask_not_found")
    assert "with a score of 0." in job["error"]["message"] and "1 is needed" in job["error"]["message"]
    assert client.get(f"{job['url']}/mask").json()["code"] == "mask_not_found"
    assert post(client, mask_prompt=segmenters.WORDS, mask_model="words")["status"] == "succeeded"
