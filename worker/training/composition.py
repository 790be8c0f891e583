"""Training batches for a model of the catalog, composed by its family: trained as it is served."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.schema import InpaintParameters
from worker import masks
from worker.families.base import Canvas
from worker.families.latent_diffusion import LatentDiffusion
from worker.state import Conditioning
from worker.training.corpus import Corpus, draw_batch
from worker.training.example import HOLE_WEIGHT, KNOWN_WEIGHT
from worker.training.holes import draw_mask, draw_wide_mask
from worker.training.seeds import numpy_rng, torch_rng
from worker.training.targets import law_of

CAPTIONS_KEPT = 256


def choice(default: float, text: str) -> float:
    """A field of a recipe and its line of help; an int stays one."""
    made: float = field(default=default, metadata={"help": text})
    return made


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a recipe says of its examples."""

    batch: int = choice(4, "crops that go through the network at once")
    size_px: int = choice(0, "side of a crop in pixels; 0: what the model was made for")
    last_share: float = choice(0.1, "share of examples at pure noise, where sampling begins")
    wide_share: float = choice(0.5, "share of wide holes: boxes of half the crop and more")
    caption_dropout: float = choice(0.1, "share of captions left out, which guidance needs")
    min_snr: float = choice(0.0, "gamma of min-SNR weighting (Hang et al. 2023: 5); 0: none")
    seed: int = choice(0, "the same seed gives the same run")


@dataclass(frozen=True)
class Batch:
    """What the network is shown, what it should say, and how much each cell and each example counts."""

    inputs: Tensor  # (B, C', h, w)
    timestep: Tensor  # (B,)
    conditioning: Conditioning
    target: Tensor  # (B, C, h, w)
    cell_weight: Tensor  # (B, 1, h, w)
    row_weight: Tensor  # (B,)


class Composer:
    """Draws batches: the same seed, step and part give the same one.

    Args:
        family: the model; it encodes pictures, prompts and masks as for a request.
        corpus: where crops come from, and as titles their captions.
        parameters: what else a family wants to know of a request.
        choices: of the recipe, with its `size_px` settled.
    """

    def __init__(
        self, family: LatentDiffusion, corpus: Corpus, parameters: InpaintParameters, choices: Choices
    ) -> None:
        self.family, self.corpus, self.parameters, self.choices = family, corpus, parameters, choices
        self.law = law_of(family.pipeline.scheduler)
        self._told: dict[str, Conditioning] = {}

    @torch.no_grad()
    def draw(self, step: int, part: int = 0) -> Batch:
        """The network sees the whole picture noised, which is what sampling shows it in both modes.

        A concat network is also shown the hole and its surroundings, and is judged by the hole; an ordinary network
        knows of no hole and is judged everywhere.
        """
        choices, device = self.choices, self.family.device
        rng = numpy_rng(choices.seed, step, f"crops {part}")
        generator = torch_rng(choices.seed, step, f"noise {part}")
        crops = draw_batch(self.corpus, rng, choices.batch, choices.size_px)
        texts = ["" if rng.random() < choices.caption_dropout else title for title in crops.titles]
        canvases = [self.canvas(image, rng) for image in crops.image]

        clean = self.family.encode(crops.image.to(device), generator).float()
        level = self.law.draw(choices.batch, generator, choices.last_share).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        inputs, cell_weight = self._with_holes(self.law.noised(clean, noise, level), canvases, generator)
        return Batch(
            inputs=inputs,
            timestep=self.law.timestep(level),
            conditioning=self.family.stack([self._conditioning(text) for text in texts]),
            target=self.law.target(clean, noise, level),
            cell_weight=cell_weight,
            row_weight=self.law.min_snr(level, choices.min_snr) if choices.min_snr else torch.ones_like(level).float(),
        )

    def canvas(self, image: Tensor, rng: np.random.Generator) -> Canvas:
        """A crop, (3, S, S) in [-1, 1], with a hole drawn for it."""
        wide = rng.random() < self.choices.wide_share
        mask: NDArray[np.uint8] = (draw_wide_mask if wide else draw_mask)(rng, self.choices.size_px) * np.uint8(255)
        pixels = image.add(1).mul(127.5).round().byte().permute(1, 2, 0).contiguous().numpy()
        return Canvas(pixels, pixels, mask)

    def _with_holes(self, noised: Tensor, canvases: list[Canvas], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The network's input, and where the loss counts: (B, C', h, w), (B, 1, h, w)."""
        cells = [masks.latent_mask(canvas.mask, self.family.latent_factor) for canvas in canvases]
        repaint = (torch.cat(cells) > 0).to(noised)
        if self.family.mode.name != "concat":
            return noised, torch.ones_like(repaint)
        rows = zip(canvases, repaint.to(self.family.dtype).split(1), strict=True)
        beside = [as_served(self.family, canvas, cells, generator) for canvas, cells in rows]
        return torch.cat([noised, torch.cat(beside).float()], dim=1), HOLE_WEIGHT * repaint + KNOWN_WEIGHT * (
            1 - repaint
        )

    def _conditioning(self, text: str) -> Conditioning:
        """What the network is told of a caption, encoded once."""
        if text not in self._told:
            if len(self._told) >= CAPTIONS_KEPT:
                self._told.clear()
            side = self.choices.size_px
            blank = Canvas(*(np.zeros(shape, np.uint8) for shape in ((side, side, 3), (side, side, 3), (side, side))))
            asked = self.parameters.model_copy(update={"prompt": text})
            self._told[text] = self.family.encode_prompts(asked, blank)[0]
        return self._told[text]


def as_served(family: LatentDiffusion, canvas: Canvas, repaint: Tensor, generator: torch.Generator) -> Tensor:
    """What a concat network is shown beside the latents, made by the very lines that serve it. (1, C' - C, h, w)"""
    beside = family._extra_channels(canvas, repaint, family.ground(canvas, generator), generator)
    assert beside is not None
    return beside
