"""The training of the U-Net and, with it, of the text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from recipe.captions import caption, tinted_caption
from recipe.example import Example, draw_noise, make_example
from recipe.head import fit_head
from recipe.latent_space import CELL_PX, LatentSpace
from recipe.painter import Painter
from recipe.parallel import Parallel
from recipe.parts import make_scheduler
from recipe.perceptual import PerceptualLoss
from recipe.tints import tint
from worker.training.corpus import Corpus, draw_batch
from worker.training.holes import draw_mask, draw_wide_mask
from worker.training.loss import simple_loss
from worker.training.run import TrainingState, plateau_rate, record_files_seen, set_learning_rate, take_averages
from worker.training.seeds import numpy_rng, torch_rng
from worker.training.targets import DiffusionLaw, diffusion_law


@dataclass(frozen=True)
class UnetRecipe:
    """What decides the result of a run, besides the corpus. From `large_from` on crops are `large_px` wide.

    In `tint_share` of the examples the hole is tinted, the caption says so, and nothing else does (last timestep).
    A new run fits its last convolution to `head_batches` batches first. What reads the prompt learns `text_factor`
    times as fast as the rest. A batch is computed in `parts` parts, each on a thread, whose gradients are averaged.
    """

    steps: int = 8000
    batch: int = 32
    size_px: int = 128
    large_from: int = 6000
    large_batch: int = 8
    large_px: int = 256
    wide_share: float = 0.0
    tint_share: float = 0.3
    head_batches: int = 0
    peak_rate: float = 4e-4
    text_factor: float = 3.0
    perceptual: float = 0.0
    warm_up: int = 300
    cool_down: int = 1000
    decay: float = 0.999
    parts: int = 1
    seed: int = 0
    save_every: int = 100

    def at(self, step: int) -> tuple[int, int]:
        """(batch, crop size in pixels) of a step."""
        return (self.batch, self.size_px) if step < self.large_from else (self.large_batch, self.large_px)


@dataclass(frozen=True)
class Source:
    """Where examples come from: the same seed and step give the same example."""

    corpus: Corpus
    space: LatentSpace
    law: DiffusionLaw
    seed: int
    wide_share: float
    tint_share: float

    @classmethod
    def of(cls, corpus: Corpus, space: LatentSpace, recipe: UnetRecipe) -> Source:
        return cls(corpus, space, diffusion_law(make_scheduler()), recipe.seed, recipe.wide_share, recipe.tint_share)

    def draw(self, step: int, batch: int, size_px: int) -> tuple[Example, list[str]]:
        rng = numpy_rng(self.seed, step, "unet")
        crops = draw_batch(self.corpus.at_least(min(size_px, 200)), rng, batch, size_px)
        mask = torch.from_numpy(np.stack([self._mask(rng, size_px) for _ in range(batch)])).unsqueeze(1).float()
        rows = [self._row(rng, *row) for row in zip(crops.image, mask, crops.titles, strict=True)]
        image, texts = torch.stack([row[0] for row in rows]), [row[1] for row in rows]
        cells = size_px // CELL_PX
        noise = draw_noise(
            (batch, self.space.channels, cells, cells), torch_rng(self.seed, step, "noise"), len(self.law.alphas_bar)
        ).at_last(torch.tensor([row[2] for row in rows]), len(self.law.alphas_bar))
        return make_example(self.space, image, mask, noise, self.law, on_fill=True), texts

    def _row(self, rng: np.random.Generator, image: Tensor, mask: Tensor, title: str) -> tuple[Tensor, str, bool]:
        """The picture, its hole tinted or as it is, a caption that fits, and whether it is tinted."""
        if rng.random() >= self.tint_share:
            return image, caption(rng, image, mask, title), False
        tinted = tint(rng, image, mask)
        return tinted, tinted_caption(rng, tinted, mask), True

    def _mask(self, rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
        draw = draw_wide_mask if rng.random() < self.wide_share else draw_mask
        return draw(rng, size_px)


def train_unet(
    source: Source,
    painter: Painter,
    folder: Path,
    recipe: UnetRecipe,
    stop_at: int | None = None,
    begin_from: Path | None = None,
    look: PerceptualLoss | None = None,
) -> TrainingState:
    """Trains, or goes on from `folder/checkpoint.pt`, until the recipe's last step or `stop_at`.

    A new run takes its first weights from the averages of the checkpoint `begin_from`, if there is one. `look` is the
    loss that `recipe.perceptual` weighs, where it is not 0.
    """
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        _begin(source, painter, recipe, begin_from)
    groups = painter.parameter_groups(recipe.text_factor)
    optimizer = torch.optim.AdamW(groups, lr=recipe.peak_rate, weight_decay=1e-2, fused=True)
    progress = TrainingState.start(painter.modules, optimizer)
    if checkpoint.exists():
        progress.restore(checkpoint)
    record_files_seen(folder, source.corpus.files)
    networks = Parallel(painter, recipe.parts)
    end = recipe.steps if stop_at is None else min(recipe.steps, stop_at)
    with tqdm(total=end, initial=progress.step, desc="unet", mininterval=10) as bar:
        while progress.step < end:
            loss = _train_step(networks, source, progress, recipe, look)
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if progress.step % recipe.save_every == 0 or progress.step == end:
                progress.save(checkpoint)
    return progress


def _begin(source: Source, painter: Painter, recipe: UnetRecipe, begin_from: Path | None) -> None:
    """The weights of a new run. Its head is fitted to examples that come after those of the run itself."""
    if begin_from is not None:
        take_averages(begin_from, painter.modules)
    steps = range(recipe.steps, recipe.steps + recipe.head_batches)
    if steps:
        fit_head(painter, (source.draw(step, recipe.batch, recipe.size_px) for step in steps))


def _train_step(
    networks: Parallel, source: Source, progress: TrainingState, recipe: UnetRecipe, look: PerceptualLoss | None
) -> float:
    rate = plateau_rate(progress.step, recipe.steps, recipe.peak_rate, recipe.warm_up, recipe.cool_down)
    set_learning_rate(progress.optimizer, rate)
    example, texts = source.draw(progress.step, *recipe.at(progress.step))
    share = len(texts) // len(networks.painters)

    def loss_of(painter: Painter, part: int) -> Tensor:
        rows = slice(part * share, (part + 1) * share)
        mine = example.part(rows)
        output = painter.predict(mine, texts[rows])
        loss = simple_loss(output, mine.target, mine.weight)
        return loss if look is None else loss + recipe.perceptual * look(mine, output)

    loss = networks.backward(loss_of)
    torch.nn.utils.clip_grad_norm_(networks.painters[0].parameters(), 1.0)
    progress.optimizer.step()
    progress.step += 1
    progress.average(recipe.decay)
    return loss
