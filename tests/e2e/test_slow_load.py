"""A model whose load outlasts the deadline of its job and of one that runs: it comes from a hub that takes its time."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack, submit, wait_for
from tests.redis_server import RedisServer
from tests.worker import tiny
from tests.worker.hub import Hub, Shelf

DEADLINE_S = 8  # of which the jobs themselves need one, unless the machine is slow
LEASE_S = 3
SLOW = "unet/diffusion_pytorch_model.safetensors"
ENTRY = """
[models.{name}]
family = "sd"
source = "{source}"
num_inference_steps = 30
guidance_scale = 1.0
strength = 1.0
scheduler = "euler"
size_px = 64
max_size_px = 64
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("model")
    tiny.pipeline("sd", "concat", "euler").save_pretrained(folder)
    made = Shelf({"org/slow": {"main": folder}}, slow=frozenset({SLOW}))
    yield made
    made.open.set()


@pytest.fixture(scope="module")
def stack(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("e2e")
    sources = {"here": shelf.repositories["org/slow"]["main"], "slow": "org/slow"}
    catalog = folder / "catalog.toml"
    catalog.write_text("".join(ENTRY.format(name=name, source=source) for name, source in sources.items()))
    env = {"CATALOG": catalog, "JOB_DEADLINE_S": DEADLINE_S, "LEASE_S": LEASE_S, "BEAT_S": 0.5, "CODEC_THREADS": 1}
    with Hub(shelf) as hub, RedisServer(folder / "redis", append_only=True) as server:
        online = {**hub.environment(folder / "cache"), "HF_HUB_OFFLINE": "0"}
        settings = {f"INFILL_{name}": str(value) for name, value in env.items()}
        with Stack(server.url, folder, **online, **settings) as made:
            made.start_api()
            made.wait_until_up()
            yield made


def until(look: Any, wanted: Any) -> None:
    deadline = time.monotonic() + 60
    while (seen := look()) != wanted:
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)


def slow_model(client: httpx.Client) -> dict[str, Any]:
    models = {model["name"]: model for model in client.get("/v1/models").json()["models"]}
    found: dict[str, Any] = models["slow"]
    return found


def test_jobs_outlive_a_load_that_outlasts_their_deadline_and_show_it(stack: Stack, shelf: Shelf) -> None:
    with stack.client() as client:
        running, waiting = (submit(client, model=name).json()["id"] for name in ("here", "slow"))
        stack.start_worker(
            INFILL_WORKER_NAME="w"
        )  # it takes both at once, and steps the first while it opens the second

        def look(job_id: str) -> dict[str, Any]:
            job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
            return job

        until(lambda: look(waiting)["status"], "loading")
        began = time.monotonic()
        until(lambda: (slow_model(client)["loading_by"], slow_model(client)["loaded_by"]), (["w"], []))
        stands, later = look(running), submit(client, model="slow").json()
        assert stands["status"] == "running" and 0 < stands["progress"]["step"] < stands["progress"]["steps"]
        assert [job["progress"]["eta_ms"] for job in (stands, look(waiting), later)] == [None] * 3
        time.sleep(max(0.0, began + max(DEADLINE_S, LEASE_S) + 0.5 - time.monotonic()))
        assert look(running)["progress"]["step"] == stands["progress"]["step"]
        assert (look(waiting)["status"], slow_model(client)["loading_by"]) == ("loading", ["w"])
        shelf.open.set()
        jobs = [wait_for(client, job_id) for job_id in (running, waiting, later["id"])]
        assert [(job["status"], job["attempt"]) for job in jobs] == [("succeeded", 1)] * 3, jobs
        for job in jobs[:2]:
            parts = {name: ms for name, ms in job["timings"].items() if name not in ("steps", "step_p50", "batch_mean")}
            assert parts["load"] > 1000 * DEADLINE_S
            assert sum(parts.values()) == pytest.approx(2 * parts["total"], abs=0.1)
        until(lambda: (slow_model(client)["loading_by"], slow_model(client)["loaded_by"]), ([], ["w"]))
