"""The inpainting form of a training example: what the network sees, what it should say, where it counts."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from recipe.latent_space import CELL_PX, LatentSpace
from worker.pixels.fill.texture import fill
from worker.training.loss import HOLE_WEIGHT, KNOWN_WEIGHT
from worker.training.targets import DiffusionLaw, compose


@dataclass(frozen=True)
class Example:
    """A batch ready for the U-Net."""

    sample: Tensor  # (B, 2C + 1, h, w): noised latents, mask, masked image latents
    timestep: Tensor  # (B,)
    target: Tensor  # (B, C, h, w)
    weight: Tensor  # (B, 1, h, w)
    image: Tensor  # (B, 3, H, W) in [-1, 1]: the picture
    shown: Tensor  # (B, 3, H, W): what the network is shown of it
    hole: Tensor  # (B, 1, H, W): 1 = repaint
    place: Tensor  # (B,) in [0, 1): where a loss looks that does not look everywhere

    def part(self, rows: slice) -> Example:
        return Example(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Draw:
    """The random part of a batch."""

    noise: Tensor  # (B, C, h, w)
    timestep: Tensor  # (B,) integers
    known_is_clean: Tensor  # (B,) bool
    place: Tensor  # (B,) in [0, 1)

    def at_last(self, rows: Tensor, train_steps: int) -> Draw:
        """The same with the rows (B,) at the last timestep, where the noised hole tells nothing."""
        return replace(self, timestep=torch.where(rows, train_steps - 1, self.timestep))


def latent_mask(mask: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, 1, H/8, W/8): a cell is repainted when any of its pixels is, so thin strokes are obeyed."""
    return F.max_pool2d(mask, CELL_PX)


def masked_image(image: Tensor, mask: Tensor) -> Tensor:
    """The picture with its hole at 0, mid-grey in [-1, 1] (1 in the mask = repaint)."""
    return image * (mask < 0.5)


def filled_image(image: Tensor, mask: Tensor) -> Tensor:
    """The picture with its hole filled as the worker fills it, through the same bytes."""
    pixels = image.mul(127.5).add(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    holes = (mask[:, 0] >= 0.5).numpy()
    filled = [torch.from_numpy(fill(picture, hole)) for picture, hole in zip(pixels, holes, strict=True)]
    return torch.stack(filled).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def make_example(
    space: LatentSpace, image: Tensor, mask: Tensor, draw: Draw, law: DiffusionLaw, on_fill: bool = False
) -> Example:
    """Composes a batch from pictures in [-1, 1], (B, 3, H, W), and pixel masks, (B, 1, H, W).

    Two ways of sampling meet here. A concat pipeline starts from noise everywhere and lets the known part denoise along
    with the hole; recomposition puts the known part back after each step, noised to the next step's level, which for
    this network's noise law is next to nothing. One network is trained on both: in examples drawn as `known_is_clean`
    the known cells are the clean latents, in the others they are noised like the hole. Where the known part is clean
    its noise was never shown and cannot be predicted, and the loss there is zero.

    `on_fill`: the hole that the network is shown is filled, not grey, and its latents are those of the picture less
    those of the filled one. A network that says nothing then leaves the fill as it is.
    """
    shown = filled_image(image, mask) if on_fill else masked_image(image, mask)
    masked = space.encode(shown)
    clean, cells = space.encode(image), latent_mask(mask)
    if on_fill:
        clean = clean - masked
    noised = law.noised(clean, draw.noise, draw.timestep)
    keep_clean = draw.known_is_clean.view(-1, 1, 1, 1)
    started = torch.where(keep_clean, compose(noised, clean, cells), noised)
    sample = torch.cat([started, cells, masked], dim=1)
    known_weight = torch.where(keep_clean, 0.0, KNOWN_WEIGHT)
    weight = cells * HOLE_WEIGHT + (1 - cells) * known_weight
    wanted = law.target(clean, draw.noise, draw.timestep)
    return Example(sample, draw.timestep, wanted, weight, image, shown, mask, draw.place)


def draw_noise(
    shape: tuple[int, ...],
    generator: torch.Generator,
    train_steps: int,
    clean_share: float = 0.25,
    last_share: float = 0.7,
) -> Draw:
    """`last_share` of the timesteps are the last one, the others are uniform.

    At the last one the network sees no signal and its prediction decides what fills the hole; sampling starts there.
    """
    batch = shape[0]
    timestep = torch.randint(train_steps, (batch,), generator=generator)
    last = torch.rand(batch, generator=generator) < last_share
    return Draw(
        noise=torch.randn(shape, generator=generator),
        timestep=torch.where(last, train_steps - 1, timestep),
        known_is_clean=torch.rand(batch, generator=generator) < clean_share,
        place=torch.rand(batch, generator=generator),
    )
