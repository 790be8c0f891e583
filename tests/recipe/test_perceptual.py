"""The perceptual loss over a linear decoder and a small random network of VGG's form."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from recipe.example import Example
from recipe.latent_space import LatentSpace
from recipe.perceptual import MARGIN_CELLS, PerceptualLoss, repeated
from recipe.unet import Source, UnetRecipe
from tests.recipe.looks import CELLS, perceptual_loss
from worker.training.corpus import Corpus


@dataclass(frozen=True)
class Scene:
    look: PerceptualLoss
    example: Example

    @property
    def right(self) -> Tensor:
        """The answer that leaves nothing to be wished for: v of a last timestep."""
        return self.example.target


@pytest.fixture
def scene(corpus: Corpus, space: LatentSpace) -> Scene:
    source = Source.of(corpus, space, UnetRecipe(tint_share=1.0))  # tinted examples are at the last timestep
    example, _ = source.draw(0, 3, 64)
    return Scene(perceptual_loss(space, source), example)


def test_the_right_answer_looks_closer_to_the_picture_than_none(scene: Scene) -> None:
    none = torch.zeros_like(scene.right)
    assert scene.look(scene.example, scene.right) < 0.5 * scene.look(scene.example, none)


def test_a_network_that_says_nothing_leaves_the_fill_as_it_is(scene: Scene) -> None:
    painted, _ = scene.look._window(scene.example, torch.zeros_like(scene.right), 0)
    top, left = scene.look._place(scene.example, scene.right.shape[1], 0)
    inner = (slice(0, 1), slice(None), slice(8 * top, 8 * (top + CELLS)), slice(8 * left, 8 * (left + CELLS)))
    assert torch.equal(painted, scene.example.shown[inner])


def test_at_every_timestep_the_right_answer_leaves_nothing_to_be_wished_for(
    scene: Scene, corpus: Corpus, space: LatentSpace
) -> None:
    source = Source.of(corpus, space, UnetRecipe(tint_share=0.0))
    example, _ = source.draw(1, 8, 64)
    change = scene.look._change_of_latents(example, example.target)
    assert (example.timestep < 999).any()
    torch.testing.assert_close(change, space.encode(example.image) - space.encode(example.shown), atol=1e-4, rtol=0)


def test_the_answer_is_judged_in_the_window_and_what_the_decoder_sees_of_its_surroundings(scene: Scene) -> None:
    answer = torch.zeros_like(scene.right).requires_grad_()
    torch.autograd.backward(scene.look(scene.example, answer))
    assert answer.grad is not None
    for row in range(3):
        judged = answer.grad[row].abs().sum(0).nonzero()
        assert len(judged)
        extent = judged.amax(0) - judged.amin(0) + 1
        assert extent.max() <= CELLS + 2 * MARGIN_CELLS


def test_only_what_repeats_from_cell_to_cell_counts_as_a_grid() -> None:
    x = torch.arange(64.0).expand(1, 3, 64, 64)
    grid, slope, noise = ((x % 8) < 1) * 0.5, x / 64, torch.randn(1, 3, 64, 64, generator=torch.manual_seed(0)) * 0.2
    assert repeated(grid) > 20 * max(repeated(slope), repeated(noise))


def test_a_window_holds_some_of_the_hole_wherever_it_is_drawn(scene: Scene) -> None:
    for share in (0.0, 0.5, 0.999):
        scene.example.place[:] = share
        for row in range(3):
            top, left = scene.look._place(scene.example, scene.right.shape[1], row)
            hole = scene.example.hole[row, :, 8 * top : 8 * (top + CELLS), 8 * left : 8 * (left + CELLS)]
            assert hole.any()


def test_training_needs_no_package_of_the_bench_until_the_loss_is_asked_for() -> None:
    without = "import sys; sys.modules['h5py'] = None; import recipe.__main__"
    subprocess.run([sys.executable, "-c", without], check=True, timeout=120)
