from __future__ import annotations

import torch

from recipe.example import (
    Draw,
    Example,
    draw_noise,
    latent_mask,
    make_example,
    masked_image,
)
from recipe.latent_space import LatentSpace
from recipe.parts import make_scheduler
from worker.training.loss import KNOWN_WEIGHT
from worker.training.targets import compose, diffusion_law

SCHEDULER = make_scheduler()
LAW = diffusion_law(SCHEDULER)


def _image(seed: int = 0) -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _mask() -> torch.Tensor:
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 9:15, 10:23] = 1
    return mask


def _draw(channels: int) -> Draw:
    noise = torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(3))
    return Draw(noise, torch.tensor([300, 800]), torch.tensor([True, False]), torch.zeros(2))


def _example(space: LatentSpace, image: torch.Tensor) -> Example:
    return make_example(space, image, _mask(), _draw(space.channels), LAW)


def test_white_takes_the_noised_picture_and_black_the_clean_one() -> None:
    noised, clean = torch.full((1, 1, 1, 2), 5.0), torch.zeros(1, 1, 1, 2)
    assert compose(noised, clean, torch.tensor([[[[1.0, 0.0]]]])).flatten().tolist() == [5.0, 0.0]


def test_channels_are_latents_then_mask_then_masked_image_latents(space: LatentSpace) -> None:
    example = _example(space, _image())
    c = space.channels
    assert example.sample.shape == (2, 2 * c + 1, 4, 4)
    assert torch.equal(example.sample[:, c : c + 1], latent_mask(_mask()))
    assert torch.equal(example.sample[:, c + 1 :], space.encode(masked_image(_image(), _mask())))


def test_known_cells_are_clean_in_some_examples_and_noised_in_others(space: LatentSpace) -> None:
    clean, draw, cells = space.encode(_image()), _draw(space.channels), latent_mask(_mask()).bool()
    shown = _example(space, _image()).sample[:, : space.channels]
    noised = SCHEDULER.add_noise(clean, draw.noise, draw.timestep)
    torch.testing.assert_close(shown[1], noised[1])
    torch.testing.assert_close(shown[0], torch.where(cells[0], noised[0], clean[0]))


def test_the_loss_counts_the_hole_fully_the_noised_surroundings_a_little_and_clean_ones_not_at_all(
    space: LatentSpace,
) -> None:
    weight, cells = _example(space, _image()).weight, latent_mask(_mask())
    assert torch.equal(weight[0], cells[0])
    assert torch.equal(weight[1], torch.where(cells[1] > 0, 1.0, KNOWN_WEIGHT))


def test_the_target_is_the_schedulers_velocity(space: LatentSpace) -> None:
    draw = _draw(space.channels)
    wanted = SCHEDULER.get_velocity(space.encode(_image()), draw.noise, draw.timestep)
    torch.testing.assert_close(_example(space, _image()).target, wanted)


def test_the_condition_tells_nothing_about_the_hole(space: LatentSpace) -> None:
    image, other = _image(), torch.where(_mask() > 0.5, _image(9), _image())
    condition = slice(space.channels, None)
    assert torch.equal(_example(space, image).sample[:, condition], _example(space, other).sample[:, condition])


def test_one_white_pixel_opens_its_whole_cell() -> None:
    mask = torch.zeros(1, 1, 24, 24)
    mask[..., 17, 3] = 1
    assert latent_mask(mask).nonzero().tolist() == [[0, 0, 2, 0]]


def test_seven_in_ten_timesteps_are_the_last_and_a_quarter_of_known_parts_is_clean() -> None:
    draw = draw_noise((4000, 1, 1, 1), torch.Generator().manual_seed(0), 1000)
    assert 0.66 < (draw.timestep == 999).float().mean() < 0.74
    assert 0.2 < draw.known_is_clean.float().mean() < 0.3
    assert draw.timestep.min() >= 0
    assert draw.timestep.max() == 999
