"""Training batches for a model of the catalog, composed by its family: trained as it is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.schema import InpaintParameters
from worker.denoise.state import Conditioning
from worker.families.latent_diffusion import LatentDiffusion
from worker.pixels import masks
from worker.pixels.canvas import Canvas
from worker.training.corpus import Corpus, draw_batch
from worker.training.holes import draw_mask, draw_wide_mask
from worker.training.loss import HOLE_WEIGHT, KNOWN_WEIGHT
from worker.training.seeds import numpy_rng, torch_rng
from worker.training.targets import compose, law_of

CAPTIONS_KEPT = 256


Range = tuple[Callable[[Any], bool], str]
COUNT: Range = (lambda value: value >= 1, "at least 1")
FROM_ZERO: Range = (lambda value: value >= 0, "at least 0")
POSITIVE: Range = (lambda value: value > 0, "more than 0")
SHARE: Range = (lambda value: 0 <= value <= 1, "from 0 to 1")
CROP: Range = (lambda value: value >= 0 and value % 64 == 0, "a multiple of 64")


def choice(default: Any, allowed: Range, text: str) -> Any:
    """A field of a recipe: an option of the command line, with its range and its line of help."""
    return field(default=default, metadata={"allowed": allowed, "help": text})


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a recipe says of its examples. Raises ValueError naming an option out of its range."""

    batch: int = choice(4, COUNT, "crops that go through the network at once")
    size_px: int = choice(0, CROP, "side of a crop in pixels; 0: what the model was made for")
    last_share: float = choice(0.1, SHARE, "share of examples at pure noise, where sampling begins")
    wide_share: float = choice(0.5, SHARE, "share of wide holes: boxes of half the crop and more")
    composed_share: float = choice(
        0.25, SHARE, "share of an ordinary network's examples that are noised in the hole alone; 0: none"
    )
    caption_dropout: float = choice(0.1, SHARE, "share of captions left out, which guidance needs")
    min_snr: float = choice(0.0, FROM_ZERO, "gamma of min-SNR weighting (Hang et al. 2023: 5); 0: none")
    seed: int = choice(0, FROM_ZERO, "the same seed gives the same run")

    def __post_init__(self) -> None:
        for option in fields(self):
            within, words = option.metadata["allowed"]
            if not within(value := getattr(self, option.name)):
                raise ValueError(f"--{option.name.replace('_', '-')} {value}: {words}")


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
        choices: of the recipe, with its `size_px` resolved.

    Raises ValueError for a `composed_share` of a network made for inpainting, which is not trained so.
    """

    def __init__(
        self, family: LatentDiffusion, corpus: Corpus, parameters: InpaintParameters, choices: Choices
    ) -> None:
        self.family, self.corpus, self.parameters, self.choices = family, corpus, parameters, choices
        family.prompt_chunks = 1  # the captions of a batch are of one length
        self.law = law_of(family.pipeline.scheduler)
        self.ordinary = family.mode.name == "recompose"
        if not self.ordinary and choices.composed_share != Choices.composed_share:
            raise ValueError(
                f"--composed-share {choices.composed_share}: for ordinary networks only; that of {parameters.model!r} "
                "was made for inpainting: it sees the clean surroundings beside the noised picture"
            )
        self._encoded_texts: dict[str, Conditioning] = {}

    @torch.no_grad()
    def draw(self, step: int, part: int = 0) -> Batch:
        """The network sees the whole picture noised, which is what sampling shows it in both modes; an ordinary one, in
        `composed_share` of the examples, the hole noised and the rest clean: `mask * noised + (1 - mask) * clean`.

        A concat network is also shown the hole and its surroundings, and is judged by the hole, its surroundings a
        little. An ordinary one is judged everywhere, but for what is clean: its noise was never shown.
        """
        choices, device = self.choices, self.family.device
        rng = numpy_rng(choices.seed, step, f"crops {part}")
        generator = torch_rng(choices.seed, step, f"noise {part}")
        crops = draw_batch(self.corpus, rng, choices.batch, choices.size_px)
        texts = ["" if rng.random() < choices.caption_dropout else title for title in crops.titles]
        canvases = [self.canvas(image, rng) for image in crops.image]

        rows = [self._encoded(*row, generator) for row in zip(crops.image.to(device).split(1), canvases, strict=True)]
        clean, repaint, beside = (torch.cat(parts).float() for parts in zip(*rows, strict=True))
        level = self.law.draw(choices.batch, generator, choices.last_share).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        composed = self._composed(generator)
        noised = self.law.noised(clean, noise, level)
        noised = torch.where(composed, compose(noised, clean, repaint), noised)
        return Batch(
            inputs=torch.cat([noised, beside], dim=1),
            timestep=self.law.timestep(level),
            conditioning=self.family.stack([self._conditioning(text) for text in texts]),
            target=self.law.target(clean, noise, level),
            cell_weight=self._cell_weight(repaint, composed),
            row_weight=self.law.min_snr(level, choices.min_snr) if choices.min_snr else torch.ones_like(level).float(),
        )

    def canvas(self, image: Tensor, rng: np.random.Generator) -> Canvas:
        """A crop, (3, S, S) in [-1, 1], with a hole drawn for it."""
        wide = rng.random() < self.choices.wide_share
        mask: NDArray[np.uint8] = (draw_wide_mask if wide else draw_mask)(rng, self.choices.size_px) * np.uint8(255)
        pixels = image.add(1).mul(127.5).round().byte().permute(1, 2, 0).contiguous().numpy()
        return Canvas(pixels, mask)

    def _encoded(self, image: Tensor, canvas: Canvas, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Of one crop, by the very lines that serve a request: its latents, (1, C, h, w), as its mode has
        them; the hole on their grid, (1, 1, h, w); what the network is shown beside, (1, C' - C, h, w).
        """
        family = self.family
        clean = family.encode(image, generator)
        repaint = (masks.latent_mask(family.uploaded(canvas.mask), family.latent_factor) > 0).to(clean)
        beside = family.mode.concat_channels(family, canvas, repaint, generator)
        clean = family.mode.offsets(family, canvas, clean)
        return clean, repaint, clean[:, :0] if beside is None else beside

    def _composed(self, generator: torch.Generator) -> Tensor:
        """Which examples are noised in the hole alone, (B, 1, 1, 1)."""
        drawn = torch.rand(self.choices.batch, generator=generator) < self.choices.composed_share
        return (drawn & self.ordinary).view(-1, 1, 1, 1).to(self.family.device)

    def _cell_weight(self, repaint: Tensor, composed: Tensor) -> Tensor:
        """Where the loss counts, (B, 1, h, w)."""
        known = torch.where(composed, 0.0, HOLE_WEIGHT if self.ordinary else KNOWN_WEIGHT)
        return HOLE_WEIGHT * repaint + known * (1 - repaint)

    def _conditioning(self, text: str) -> Conditioning:
        """The conditioning of a caption, encoded once."""
        if text not in self._encoded_texts:
            if len(self._encoded_texts) >= CAPTIONS_KEPT:
                self._encoded_texts.clear()
            asked, side = self.parameters.model_copy(update={"prompt": text}).text, self.choices.size_px
            self._encoded_texts[text] = self.family.encode_prompts(asked, (side, side))[0]
        return self._encoded_texts[text]
