"""The commands of docs/first-model.md as they stand there; tiny models on a hub on loopback are the published ones."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.catalog import load_catalog
from launch.side_by_side import changed_outside_mask
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack
from tests.redis_server import RedisServer
from tests.worker import tiny
from tests.worker.hub import Hub, Shelf

COMMANDS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "first-model.md").read_text(), re.DOTALL)
*BEFORE, FETCH, CURL = COMMANDS
PUBLISHED = {
    "stable-diffusion-v1-5/stable-diffusion-inpainting": "sd",
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1": "sdxl",
    "black-forest-labs/FLUX.1-Fill-dev": "flux",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the commands have run, up to the download; what they have printed is in ``printed``."""
    folder = tmp_path_factory.mktemp("first-model")
    (folder / "launch").symlink_to(ROOT / "launch")
    (folder / "bin").mkdir()
    command = folder / "bin" / "infill"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m launch "$@"\n')
    command.chmod(0o755)
    tiny.pipeline("sd", "concat", "ddim").save_pretrained(folder / "sd")
    with Hub(Shelf({"stable-diffusion-v1-5/stable-diffusion-inpainting": {"main": folder / "sd"}})) as hub:
        env = hub.environment(folder / "cache")
        env = {name: value for name, value in env.items() if not name.startswith("INFILL_")}
        env |= {"PATH": f"{folder / 'bin'}:{env['PATH']}", "PYTHONPATH": str(ROOT)}
        lines = "".join([*BEFORE, FETCH])
        done = subprocess.run(["bash", "-ec", lines], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (folder / "printed").write_text(done.stdout)
    yield folder


def test_the_page_has_each_step() -> None:
    assert len(BEFORE) == 4 and FETCH.startswith("infill models fetch") and CURL.startswith("curl")


def test_the_catalog_has_the_three_models_and_the_download_is_in_the_cache(folder: Path) -> None:
    found = load_catalog(str(folder / "catalog.toml")).models
    assert {model.source: model.family for model in found.values()} == PUBLISHED
    assert (found["fill"].num_inference_steps, found["fill"].guidance_scale) == (50, 30)
    last = (folder / "printed").read_text().splitlines()[-1]
    assert last.startswith("sd15: ") and Path(last.removeprefix("sd15: ")).is_relative_to(folder / "cache")


def test_the_picture_comes_from_the_model_that_was_downloaded(folder: Path) -> None:
    offline = {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    with (
        RedisServer(folder / "redis") as server,
        Stack(server.url, folder, INFILL_CATALOG=str(folder / "catalog.toml"), **offline) as stack,
    ):
        url = stack.start_api()
        stack.start_worker()
        stack.wait_until_ready(240)
        line = CURL.replace("http://127.0.0.1:8000", url)
        subprocess.run(["bash", "-ec", line], cwd=folder, check=True, timeout=120)
        assert changed_outside_mask(PHOTO, MASK, folder / "bench.png") == 0
        log = stack.workers[0].log.read_text()
    assert "model sd15 loaded: " in log and '"model": "sd15"' in log
