"""A step of the pocket model's training: which holes it is shown, what its loss counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from recipe.latent_space import LatentSpace
from recipe.painter import Painter
from recipe.parallel import Parallel
from recipe.perceptual import PerceptualLoss
from recipe.unet import Source, UnetRecipe, _train_step
from tests.recipe.looks import perceptual_loss
from worker.training.corpus import Corpus
from worker.training.holes import LEAST_COVERAGE, MOST_COVERAGE
from worker.training.run import TrainingState

RECIPE = UnetRecipe(batch=3, size_px=64, tint_share=0.0)


@pytest.fixture
def source(corpus: Corpus, space: LatentSpace) -> Source:
    return Source.of(corpus, space, RECIPE)


def _step(painter: Painter, source: Source, recipe: UnetRecipe = RECIPE, look: PerceptualLoss | None = None) -> float:
    optimizer = torch.optim.AdamW(painter.parameter_groups(1.0), lr=0.0)
    return _train_step(Parallel(painter, 1), source, TrainingState.start(painter.modules, optimizer), recipe, look)


def test_the_loss_of_a_step_counts_each_cell_by_its_weight(painter: Painter, source: Source) -> None:
    example, texts = source.draw(0, RECIPE.batch, RECIPE.size_px)
    with torch.no_grad():
        error = (painter.predict(example, texts) - example.target).square().mean(1, keepdim=True)
    wanted = float((error * example.weight).sum() / example.weight.sum())
    assert _step(painter, source) == pytest.approx(wanted, rel=1e-5)
    assert wanted != pytest.approx(float(error.mean()), rel=1e-3)


def test_the_loss_in_pixels_is_added_as_often_as_asked(painter: Painter, source: Source, space: LatentSpace) -> None:
    look = perceptual_loss(space, source)
    plain = _step(painter, source)
    once, thrice = (_step(painter, source, dataclasses.replace(RECIPE, perceptual=w), look) - plain for w in (1.0, 3.0))
    assert once > 1e-3
    assert thrice == pytest.approx(3 * once, rel=1e-3)


def test_a_gradient_of_any_size_is_clipped_to_one(painter: Painter, source: Source) -> None:
    painter.unet.conv_out.weight.data.mul_(100)
    _step(painter, source)
    squares = [parameter.grad.square().sum() for parameter in painter.parameters() if parameter.grad is not None]
    assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(1, rel=1e-3)


def test_the_holes_are_ordinary_or_wide_as_often_as_asked(source: Source) -> None:
    def coverages(share: float) -> torch.Tensor:
        wide = dataclasses.replace(source, wide_share=share)
        return torch.cat([wide.draw(step, 8, 64)[0].hole.mean((1, 2, 3)) for step in range(4)])

    ordinary, wide, mixed = (coverages(share) for share in (0.0, 1.0, 0.5))
    assert ordinary.min() >= LEAST_COVERAGE
    assert ordinary.max() <= MOST_COVERAGE
    assert wide.min() >= 0.25
    assert 0.1 < float((mixed > MOST_COVERAGE).float().mean()) < float((wide > MOST_COVERAGE).float().mean())
