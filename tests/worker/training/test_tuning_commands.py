"""`infill train lora` and `infill train model` as processes: what they leave, and how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from jobs.catalog import load_catalog
from tests.worker import tiny
from tests.worker.training.drawn import picture
from worker.models.loading import Loader
from worker.settings import WorkerSettings
from worker.training.__main__ import make_parser


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalog with one tiny model in a folder, and photos beside it."""
    tiny.pipeline("sd", "concat", "ddim").save_pretrained(tmp_path / "folder")
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(picture(seed)).save(tmp_path / f"photos/{seed}.png")
    file = tmp_path / "catalog.toml"
    file.write_text(
        f'[models.tiny]\nfamily = "sd"\nsource = "{tmp_path}/folder"\nnum_inference_steps = 2\nguidance_scale = 1.0\n'
        'strength = 1.0\nscheduler = "ddim"\nsize_px = 64\nmax_size_px = 64\n'
    )
    return file


def _command(catalog: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "launch", "train", *arguments, "--images", "photos", "--threads", "1"],
        cwd=catalog.parent,
        env={"INFILL_CATALOG": str(catalog), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_saves_the_run_and_the_command_tells_how_to_go_on(catalog: Path) -> None:
    run = _command(catalog, "lora", "--model", "tiny", "--out", "mine", "--steps", "100000", "--batch", "1")
    begun = catalog.parent / "mine/samples-000000.png"
    while not begun.exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "the same command goes on from here" in said
    assert (catalog.parent / "mine/mine.safetensors").exists()
    assert (catalog.parent / "mine/checkpoint.pt").exists()


def test_a_trained_model_is_a_folder_for_the_catalog(catalog: Path) -> None:
    run = _command(catalog, "model", "--model", "tiny", "--out", "mine", "--steps", "2", "--peak-rate", "0.01")
    said, told = run.communicate(timeout=180)
    assert run.returncode == 0, told
    assert "step 2 of 2" in said
    entry = load_catalog(str(catalog)).model("tiny")
    loader = Loader(WorkerSettings(device="cpu"))
    before = loader.load("tiny", entry)
    after = loader.load("tiny", entry.model_copy(update={"source": str(catalog.parent / "mine/model")}))
    weights = [model.pipeline.unet.state_dict() for model in (before, after)]
    assert weights[0].keys() == weights[1].keys()
    assert not torch.equal(*(state["conv_in.weight"] for state in weights))
    assert torch.equal(*(model.pipeline.vae.state_dict()["decoder.conv_in.weight"] for model in (before, after)))


def test_a_model_that_the_catalog_lacks_is_named_with_those_it_has(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFILL_CATALOG", str(catalog))
    arguments = make_parser().parse_args(["lora", "--model", "huge", "--images", "photos", "--out", "mine"])
    assert arguments.command(arguments) == 1
    assert capsys.readouterr().err == "infill train: There is no model 'huge'. Known models: tiny.\n"


def test_a_composed_share_is_refused_for_a_model_made_for_inpainting(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFILL_CATALOG", str(catalog))
    monkeypatch.chdir(catalog.parent)
    wanted = ["lora", "--model", "tiny", "--images", "photos", "--out", "mine", "--composed-share", "0.5"]
    arguments = make_parser().parse_args(wanted)
    assert arguments.command(arguments) == 1
    assert capsys.readouterr().err.startswith(
        "infill train: --composed-share 0.5: for ordinary networks only; that of "
    )
    assert not (catalog.parent / "mine").exists()
