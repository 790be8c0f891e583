"""From `infill train lora` to a picture: the file that the command writes, in the folder of the running service."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from launch.side_by_side import changed_outside_mask
from tests.e2e.pictures import pixels_of
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack, result_of, submit

ASKED: dict[str, Any] = {"num_inference_steps": 4, "seed": 1, "strength": 1}
OPTIONS = {
    "--rank": "2",
    "--layers": "all",
    "--steps": "12",
    "--batch": "4",
    "--size-px": "64",
    "--peak-rate": "3e-3",
    "--warm-up": "2",
    "--decay": "0.5",
    "--last-share": "0.9",
    "--threads": "1",
}


def save_stripes(folder: Path) -> Path:
    """Six photos of upright stripes, yellow and blue, with a caption each."""
    folder.mkdir()
    for seed in range(6):
        across = (np.arange(96) + 5 * seed) // 12 % 2
        row = np.where(across[:, None] == 1, (230, 220, 60), (20, 40, 120)).astype(np.uint8)
        Image.fromarray(np.broadcast_to(row, (96, 96, 3)).copy()).save(folder / f"{seed}.png")
        (folder / f"{seed}.txt").write_text("stripes")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter, from the command as a user types it."""
    folder = tmp_path_factory.mktemp("training")
    command = ["train", "lora", "--model", "pocket", "--images", str(save_stripes(folder / "photos"))]
    options = [word for option in OPTIONS.items() for word in option]
    shown = subprocess.run(
        [sys.executable, "-m", "launch", *command, "--out", str(folder / "stripes"), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    return folder / "stripes" / "stripes.safetensors"


@pytest.fixture
def served(stack: Stack, trained: Path) -> Iterator[str]:
    """Its name, while it lies in the service's folder."""
    copy = Path(shutil.copy(trained, stack.env["INFILL_LORA_DIR"]))
    yield copy.stem
    copy.unlink()


def painted(client: httpx.Client, **fields: Any) -> np.ndarray:
    job = submit(client, {"Prefer": "wait=60"}, **ASKED, **fields).json()
    assert job["status"] == "succeeded", job
    assert job["mask"]["changed_outside_mask"] == 0
    return pixels_of(result_of(client, job))


def test_a_trained_adapter_is_listed_with_its_model(client: httpx.Client, served: str) -> None:
    (found,) = [lora for lora in client.get("/v1/loras").json()["loras"] if lora["name"] == served]
    assert (found["models"], found["rank"]) == (["pocket"], 2)


def test_a_trained_adapter_changes_what_is_painted_and_nothing_else(client: httpx.Client, served: str) -> None:
    photo, mask = pixels_of(PHOTO.read_bytes()), pixels_of(MASK.read_bytes())
    plain = painted(client)
    changed = painted(client, loras=json.dumps([{"name": served, "scale": 1.0}]))
    assert np.abs(changed[mask > 0].astype(int) - plain[mask > 0]).mean() > 1
    assert (changed[mask == 0] == photo[mask == 0]).all()
    assert (painted(client) == plain).all()


def test_the_commands_of_the_page_lead_from_photos_to_a_picture(stack: Stack, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "loras.md").read_text(), re.DOTALL)
    for option, cheaper in (("--steps 50", "--steps 2"), ("--batch 16", "--batch 2"), ("--warm-up 5", "--warm-up 1")):
        assert option in blocks[0]
        blocks[0] = blocks[0].replace(option, cheaper)
    save_stripes(tmp_path / "photos")
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    command = f'infill() {{ {shlex.quote(sys.executable)} -P -m launch "$@"; }}\n'
    env = {**os.environ, "PYTHONPATH": str(ROOT), "INFILL_URL": stack.urls[0]}
    env["INFILL_LORA_DIR"] = stack.env["INFILL_LORA_DIR"]
    adapter = Path(stack.env["INFILL_LORA_DIR"]) / "stripes.safetensors"
    done = subprocess.run(
        ["bash", "-ec", command + "".join(blocks)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    adapter.unlink(missing_ok=True)
    assert done.returncode == 0, done.stderr
    assert "stripes" in done.stdout
    assert changed_outside_mask(PHOTO, MASK, tmp_path / "stripes.png") == 0
