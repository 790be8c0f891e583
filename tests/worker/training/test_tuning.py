"""Training models of the catalog: every family learns, a resumed run goes on bit for bit, batches are as served."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.worker import tiny
from tests.worker.training.drawn import tiny_composer
from worker.families.latent_diffusion import LatentDiffusion
from worker.training.composition import Batch
from worker.training.lora import add_lora, save_lora
from worker.training.loss import simple_loss
from worker.training.run import learning_rate
from worker.training.tuning import Diverged, LoraRecipe, Tuning, averaged

FAMILIES = [(family, mode) for family, made in tiny.FAMILIES.items() for mode in made.pipelines]
RECIPE = LoraRecipe(
    steps=4, batch=2, size_px=tiny.SIZE, accumulate=2, peak_rate=1e-2, warm_up=1, save_every=3, sample_every=10, rank=2
)


def _tuning(folder: Path, recipe: LoraRecipe = RECIPE) -> Tuning:
    family = tiny.model("sd", "concat")
    trained = add_lora(family.network, recipe.rank, recipe.seed, recipe.layers)
    keep = lambda: save_lora(family.pipeline, "unet", folder / "adapter.safetensors")  # noqa: E731
    return Tuning(tiny_composer(family, recipe), trained, recipe, folder, keep)


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
        _tuning(tmp_path, dataclasses.replace(RECIPE, rank=3))


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


def _loss(tuning: Tuning, batch: Batch, **changed: Any) -> float:
    with torch.no_grad():
        return float(tuning._loss(dataclasses.replace(batch, **changed)))


def test_the_loss_of_a_batch_is_the_mean_of_its_examples_each_by_its_weight(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    batch = tuning.composer.draw(0)
    first, second, both = (
        _loss(tuning, batch, row_weight=torch.tensor(rows)) for rows in ([2.0, 0], [0, 2.0], [1.0, 1])
    )
    assert first != pytest.approx(second, rel=0.01)
    assert (first + second) / 2 == pytest.approx(both, rel=1e-5)
    assert _loss(tuning, batch, row_weight=torch.tensor([6.0, 0])) == pytest.approx(3 * first, rel=1e-5)


def test_the_loss_of_an_example_is_the_mean_over_its_cells_each_by_its_weight(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    batch = tuning.composer.draw(0)
    with torch.no_grad():
        output = tuning.composer.family.forward(batch.inputs, batch.timestep, batch.conditioning)
    error = (output - batch.target).square().mean(1, keepdim=True)
    wanted = (error * batch.cell_weight).sum((1, 2, 3)) / batch.cell_weight.sum((1, 2, 3))
    assert _loss(tuning, batch) == pytest.approx(float(wanted.mean()), rel=1e-5)
    assert _loss(tuning, batch) != pytest.approx(float(error.mean()), rel=1e-3)


def test_a_step_goes_by_the_recipes_learning_rate_and_the_average_by_its_decay(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path, dataclasses.replace(RECIPE, decay=0.0))
    for step in range(3):
        tuning._step()
        rate = learning_rate(step, RECIPE.steps, RECIPE.peak_rate, RECIPE.warm_up)
        assert [group["lr"] for group in tuning.progress.optimizer.param_groups] == [rate]
        for weight, average in zip(tuning.trained, tuning.progress.averages["trained"].values(), strict=True):
            torch.testing.assert_close(average, weight.detach())


def test_a_gradient_of_any_size_is_clipped_to_one(tmp_path: Path) -> None:
    tuning = _tuning(tmp_path)
    tuning.composer.family.network.conv_out.weight.data.mul_(100)
    tuning._step()
    norms = [weight.grad.norm() for weight in tuning.trained if weight.grad is not None]
    assert float(torch.stack(norms).norm()) == pytest.approx(1, rel=1e-3)


def _by_heart(model: LatentDiffusion, trained: list[torch.nn.Parameter], batch: Batch, rate: float) -> Iterator[float]:
    """The loss of one batch, again and again, each time after one more step."""
    optimizer = torch.optim.AdamW(trained, lr=rate)
    while True:
        with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
            output = model.forward(batch.inputs, batch.timestep, batch.conditioning).float()
        loss = simple_loss(output, batch.target, batch.cell_weight)
        yield loss.item()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()


@pytest.mark.parametrize(("family", "mode"), FAMILIES)
def test_every_family_learns_a_batch_by_heart_through_an_adapter(family: str, mode: str) -> None:
    """Within 60 steps: the frozen output layer of the tiny SD3 network lets out half of all directions, and is slow."""
    model = tiny.model(family, mode)
    recipe = dataclasses.replace(RECIPE, rank=8, layers="all", last_share=1.0)
    trained, batch = add_lora(model.network, 8, 0, "all"), tiny_composer(model, recipe).draw(0)
    losses = _by_heart(model, trained, batch, 1e-2)
    first = next(losses)
    assert any(loss < 0.85 * first for loss in itertools.islice(losses, 60))


@pytest.mark.parametrize(("family", "mode"), [("sd", "concat"), ("flux", "concat")])
def test_a_frozen_network_in_half_precision_learns_through_an_adapter_in_full(family: str, mode: str) -> None:
    """As on a GPU: bfloat16 weights below, float32 updates beside them, products in bfloat16."""
    made = tiny.FAMILIES[family]
    halved = tiny.pipeline(family, mode, next(iter(made.schedulers))).to(torch.bfloat16)
    model = made.family("tiny", halved)
    trained = add_lora(model.network, 8, 0, "all")
    assert {weight.dtype for weight in trained} == {torch.float32}
    batch = tiny_composer(model, RECIPE).draw(0)
    assert batch.inputs.dtype == batch.target.dtype == torch.float32
    losses = list(itertools.islice(_by_heart(model, trained, batch, 2e-2), 6))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"batch": 0}, "--batch 0: at least 1"),
        ({"peak_rate": 0.0}, "--peak-rate 0.0: more than 0"),
        ({"wide_share": 1.5}, "--wide-share 1.5: from 0 to 1"),
        ({"size_px": 100}, "--size-px 100: a multiple of 64"),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_the_range(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        dataclasses.replace(RECIPE, **wrong)
