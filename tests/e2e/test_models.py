"""Two tiny models that denoise, one that paints in one call, a broken one, and one worker without room for all."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from jobs.catalog import ModelEntry, load_catalog
from tests.e2e.stack import MASK, PHOTO, Stack, result_of, submit, wait_for
from tests.redis_server import RedisServer
from tests.worker import painters, tiny
from worker.models.loading import Loader
from worker.queue.leases import STALLED_EXIT
from worker.settings import WorkerSettings

ENTRY = """
[models.{name}]
family = "{family}"
source = "{source}"
num_inference_steps = 2
guidance_scale = 1.0
strength = 1.0
scheduler = "euler"
size_px = 64
max_size_px = 64

[models.{name}.presets.one]
num_inference_steps = 1
"""
MODELS = {"small": "sd", "large": "sdxl", "broken": "sd"}
PAINTER = """
[models.small.tasks.remove]
model = "painter"

[models.painter]
family = "feedforward"
source = "{source}"
convention = "lama"
allow_pickle = true
size_px = 64
max_size_px = 256
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("small", "large"):
        tiny.pipeline(MODELS[name], "concat", "euler").save_pretrained(folder / name)
    entries = [ENTRY.format(name=name, family=family, source=folder / name) for name, family in MODELS.items()]
    painter = painters.save(painters.trained(), folder / "painter.pt")
    file = folder / "catalog.toml"
    file.write_text("".join(entries) + PAINTER.format(source=painter))
    return file


def sizes(catalog: Path) -> list[int]:
    entries: dict[str, ModelEntry] = load_catalog(str(catalog)).models
    loader = Loader(WorkerSettings(device="cpu"))
    return [loader.read(name, entries[name]).size_bytes for name in ("small", "large")]


@contextmanager
def started(catalog: Path, folder: Path, **env: str) -> Iterator[Stack]:
    server = RedisServer(folder, append_only=True)
    server.start()
    made = Stack(server.url, folder, INFILL_CATALOG=str(catalog), INFILL_LEASE_S="3", INFILL_BEAT_S="0.5", **env)
    try:
        made.start_api()
        yield made
    finally:
        made.end()
        server.kill()


@pytest.fixture(scope="module")
def stack(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    budget = str(max(sizes(catalog)))
    with started(catalog, tmp_path_factory.mktemp("e2e"), INFILL_MODEL_BUDGET_BYTES=budget) as made:
        made.start_worker()
        made.wait_until_ready()
        yield made


def loaded(client: httpx.Client) -> set[str]:
    models = client.get("/v1/models").json()["models"]
    assert all(len(model["workers"]) == 1 for model in models)  # served, whether loaded or not
    return {model["name"] for model in models if model["loaded_by"]}


def wait_until_loaded(client: httpx.Client, names: set[str]) -> None:
    """The worker's word is at most a heartbeat old."""
    deadline = time.monotonic() + 20
    while loaded(client) != names:
        assert time.monotonic() < deadline, loaded(client)
        time.sleep(0.1)


def test_the_first_model_is_loaded_at_the_start_and_gives_way_to_the_one_that_is_asked_for(
    client: httpx.Client,
) -> None:
    wait_until_loaded(client, {"small"})
    for name in ("large", "small"):
        job = wait_for(client, submit(client, model=name).json()["id"])
        assert (job["status"], job["model"], job["mask"]["changed_outside_mask"]) == ("succeeded", name, 0)
        wait_until_loaded(client, {name})


def test_jobs_of_both_models_at_once_all_succeed_at_the_first_attempt(client: httpx.Client) -> None:
    ids = [submit(client, model=name).json()["id"] for name in ("small", "large", "large", "small", "large")]
    jobs = [wait_for(client, job_id) for job_id in ids]
    assert [(job["status"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * len(ids)


def test_a_network_that_paints_in_one_call_does_the_removals_beside_denoising_jobs(client: httpx.Client) -> None:
    fills = [submit(client, model="small").json()["id"] for _ in range(2)]
    removals = [submit(client, task="remove", strength=1.0, mask_grow=grow) for grow in (0, 5)]
    jobs = [wait_for(client, accepted.json()["id"]) for accepted in removals]
    for job in jobs:
        assert (job["status"], job["model"], job["instead_of"]) == ("succeeded", "painter", "small")
        assert (job["timings"]["steps"], job["uses_seeds"], job["mask"]["changed_outside_mask"]) == (1, False, 0)
    with Image.open(PHOTO) as photo, Image.open(io.BytesIO(result_of(client, jobs[0]))) as result:
        known, painted = np.asarray(photo.convert("RGB")), np.asarray(result)
    hole = np.asarray(Image.open(MASK).convert("L")) > 0
    assert (painted[~hole] == known[~hole]).all() and (painted[hole] != known[hole]).any()
    assert [wait_for(client, job_id)["status"] for job_id in fills] == ["succeeded"] * 2


def test_a_model_that_cannot_be_loaded_fails_its_job_and_leaves_the_worker_at_work(client: httpx.Client) -> None:
    job = wait_for(client, submit(client, model="broken").json()["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "model_unavailable")
    assert "/" not in job["error"]["message"]  # the worker's paths are its own
    assert wait_for(client, submit(client, model="small").json()["id"])["status"] == "succeeded"


def test_a_preset_sets_the_steps(client: httpx.Client) -> None:
    job = wait_for(client, submit(client, model="small", preset="one").json()["id"])
    assert (job["status"], job["timings"]["steps"]) == ("succeeded", 1)


def test_a_worker_that_loads_for_too_long_ends_itself_and_another_takes_its_job(catalog: Path, tmp_path: Path) -> None:
    with started(catalog, tmp_path, INFILL_STALL_S="60") as stack:
        slow = stack.start_worker(INFILL_LOAD_LIMIT_S="0.001", INFILL_BEAT_S="0.02")
        stack.wait_until_ready()
        with stack.client() as client:
            job_id = submit(client, model="large").json()["id"]
            assert slow.popen.wait(60) == STALLED_EXIT
            stack.start_worker()
            job = wait_for(client, job_id)
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
