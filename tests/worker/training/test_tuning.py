"""Training models of the catalog: every family learns, a resumed run goes on bit for bit, batches are as served."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.schema import InpaintParameters
from tests.worker import tiny
from tests.worker.training.conftest import picture
from worker.families.latent_diffusion import LatentDiffusion
from worker.loading import Loader
from worker.settings import WorkerSettings
from worker.training.__main__ import _parser
from worker.training.composition import Composer
from worker.training.corpus import Corpus, Photo
from worker.training.example import HOLE_WEIGHT, KNOWN_WEIGHT
from worker.training.lora import add_lora, save_lora
from worker.training.loss import simple_loss
from worker.training.tuning import Diverged, LoraRecipe, TuneRecipe, Tuning, averaged

FAMILIES = [(family, mode) for family, made in tiny.FAMILIES.items() for mode in made.pipelines]
RECIPE = LoraRecipe(
    steps=4, batch=2, size_px=tiny.SIZE, accumulate=2, peak_rate=1e-2, warm_up=1, save_every=3, sample_every=10, rank=2
)


def _composer(family: LatentDiffusion, recipe: TuneRecipe) -> Composer:
    flow = family.flow
    asked = InpaintParameters(
        model="tiny",
        seed=0,
        num_inference_steps=2,
        guidance_scale=1.0,
        strength=1.0,
        scheduler="flow_euler" if flow else "ddim",
        masked_content="original",
    )
    photos = [Photo(f"{seed}.png", f"picture {seed}", picture(seed)) for seed in range(3)]
    return Composer(family, Corpus.of(photos), asked, recipe)


def _tuning(folder: Path, recipe: LoraRecipe = RECIPE) -> Tuning:
    family = tiny.model("sd", "concat")
    trained = add_lora(family.network, recipe.rank, recipe.seed, recipe.layers)
    keep = lambda: save_lora(family.pipeline, "unet", folder / "adapter.safetensors")  # noqa: E731
    return Tuning(_composer(family, recipe), trained, recipe, folder, keep)


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    _tuning(tmp_path / "through").run()
    _tuning(tmp_path / "halves").run(stop_at=2)
    halves = _tuning(tmp_path / "halves")
    assert halves.progress.step == 2
    halves.run()
    for name in ("adapter.safetensors", "losses.csv", "samples-000004.png"):
        assert (tmp_path / "through" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes(), name
    again = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("through", "halves")]
    for part in ("modules", "averages"):
        assert all(torch.equal(a, b) for a, b in zip(*(run[part]["trained"].values() for run in again), strict=True))


def test_a_run_leaves_its_recipe_its_photos_its_curve_and_its_sheets(tmp_path: Path) -> None:
    _tuning(tmp_path).run()
    assert json.loads((tmp_path / "recipe.json").read_text())["rank"] == 2
    assert json.loads((tmp_path / "files.json").read_text()) == ["0.png", "1.png", "2.png"]
    assert len((tmp_path / "losses.csv").read_text().splitlines()) == 1 + RECIPE.steps
    for name, width in (
        ("samples-000000.png", 2 * tiny.SIZE),
        ("samples-000004.png", 2 * tiny.SIZE),
        ("loss.png", 840),
    ):
        with Image.open(tmp_path / name) as image:
            assert image.width == width, name


def test_a_folder_with_a_run_of_another_recipe_is_refused(tmp_path: Path) -> None:
    _tuning(tmp_path)
    with pytest.raises(ValueError, match="rank 2, not 3"):
        _tuning(tmp_path, LoraRecipe(**{**RECIPE.__dict__, "rank": 3}))


def test_a_run_that_is_asked_to_stop_saves_what_it_has(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    tuning.run(stopped=lambda: tuning.progress.step == 1)
    assert _tuning(tmp_path).progress.step == 1
    assert (tmp_path / "adapter.safetensors").exists()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    tuning.trained[1].data.fill_(float("nan"))
    with pytest.raises(Diverged, match="peak-rate"):
        tuning.run()


def test_the_running_average_is_in_place_only_while_asked_for(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    tuning.run(stop_at=3)
    before = [weight.data.clone() for weight in tuning.trained]
    with averaged(tuning.trained, tuning.progress):
        assert torch.equal(tuning.trained[1].data, tuning.progress.averages["trained"]["1"])
        assert not torch.equal(tuning.trained[1].data, before[1])
    assert all(torch.equal(weight.data, was) for weight, was in zip(tuning.trained, before, strict=True))


def test_accumulated_batches_make_one_step_of_their_mean(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    with torch.no_grad():
        losses = [float(tuning._loss(tuning.composer.draw(0, part))) for part in range(2)]
    assert losses[0] != losses[1]
    assert tuning._step() == pytest.approx(sum(losses) / 2, rel=1e-5)


@pytest.mark.parametrize(("family", "mode"), FAMILIES)
def test_every_family_learns_a_batch_by_heart_through_an_adapter(family: str, mode: str) -> None:
    model = tiny.model(family, mode)
    recipe = LoraRecipe(**{**RECIPE.__dict__, "rank": 8, "layers": "all", "last_share": 1.0})
    trained, batch = add_lora(model.network, 8, 0, "all"), _composer(model, recipe).draw(0)
    optimizer, losses = torch.optim.AdamW(trained, lr=2e-2), []
    for _ in range(25):
        output = model.forward(batch.inputs, batch.timestep, batch.conditioning)
        loss = simple_loss(output, batch.target, batch.cell_weight)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]  # the frozen last layer of a tiny network leaves little room


@pytest.mark.parametrize(("family", "mode"), [("sd", "concat"), ("flux", "concat")])
def test_a_frozen_network_in_half_precision_learns_through_an_adapter_in_full(family: str, mode: str) -> None:
    """As on a GPU: bfloat16 weights below, float32 updates beside them, products in bfloat16."""
    made = tiny.FAMILIES[family]
    halved = tiny.pipeline(family, mode, next(iter(made.schedulers))).to(torch.bfloat16)
    model = made.family("tiny", halved)
    trained = add_lora(model.network, 8, 0, "all")
    assert {weight.dtype for weight in trained} == {torch.float32}
    batch, losses = _composer(model, RECIPE).draw(0), []
    assert batch.inputs.dtype == batch.target.dtype == torch.float32
    optimizer = torch.optim.AdamW(trained, lr=2e-2)
    for _ in range(6):
        with torch.autocast("cpu", torch.bfloat16):
            output = model.forward(batch.inputs, batch.timestep, batch.conditioning).float()
        loss = simple_loss(output, batch.target, batch.cell_weight)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("family", "mode"), FAMILIES)
def test_a_batch_is_composed_as_a_request_is_served(family: str, mode: str) -> None:
    model = tiny.model(family, mode)
    composer, side = _composer(model, RECIPE), tiny.SIZE // model.latent_factor
    batch = composer.draw(3)
    assert batch.target.shape == (2, model.latent_channels, side, side)
    image = torch.from_numpy(picture(0, tiny.SIZE, tiny.SIZE) / 127.5 - 1).permute(2, 0, 1).float()
    canvas = composer.canvas(image, np.random.default_rng(0))
    assert (canvas.image == picture(0, tiny.SIZE, tiny.SIZE)).all()
    with torch.no_grad():
        clean, repaint, beside = composer._encoded(image[None], canvas, torch.Generator().manual_seed(0))
    served = model.prepare(canvas, composer.parameters, lambda _phase: None)[0]
    assert torch.equal(repaint, served.mask)
    assert clean.shape == served.latents.shape
    if served.extra_channels is None:
        assert beside.shape[1] == 0
        assert (batch.cell_weight == 1).all()
    else:
        assert beside.shape == served.extra_channels.shape
        assert batch.inputs.shape[1] == clean.shape[1] + beside.shape[1]
        assert batch.cell_weight.unique().tolist() == pytest.approx([KNOWN_WEIGHT, HOLE_WEIGHT])


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
    from jobs.catalog import load_catalog

    entry = load_catalog(str(catalog)).model("tiny")
    loader = Loader(WorkerSettings(device="cpu"))
    before = loader.load("tiny", entry)
    after = loader.load("tiny", entry.model_copy(update={"source": str(catalog.parent / "mine/model")}))
    weights = [model.pipeline.unet.state_dict() for model in (before, after)]
    assert weights[0].keys() == weights[1].keys()
    assert not torch.equal(*(state["conv_in.weight"] for state in weights))
    assert torch.equal(*(model.pipeline.vae.state_dict()["decoder.conv_in.weight"] for model in (before, after)))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch": 0}, "--batch 0: at least 1"),
        ({"peak_rate": 0.0}, "--peak-rate 0.0: more than 0"),
        ({"wide_share": 1.5}, "--wide-share 1.5: from 0 to 1"),
        ({"size_px": 100}, "--size-px 100: a multiple of 64"),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_the_range(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        LoraRecipe(**{**RECIPE.__dict__, **wrong})


def test_a_model_that_the_catalog_lacks_is_named_with_those_it_has(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("INFILL_CATALOG", str(catalog))
    arguments = _parser().parse_args(["lora", "--model", "huge", "--images", "photos", "--out", "mine"])
    assert arguments.command(arguments) == 1
    assert capsys.readouterr().err == "infill train: There is no model 'huge'. Known models: tiny.\n"
