"""The training of the U-Net and, with it, of the text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from worker.training.captions import caption
from worker.training.corpus import Corpus, draw_batch
from worker.training.example import Example, NoiseLaw, draw_noise, make_example
from worker.training.holes import draw_mask, draw_wide_mask
from worker.training.latent_space import CELL_PX, LatentSpace
from worker.training.loss import simple_loss
from worker.training.painter import Painter
from worker.training.parallel import Parallel
from worker.training.parts import make_scheduler
from worker.training.run import Progress, learning_rate, note_files_seen, set_learning_rate
from worker.training.seeds import numpy_rng, torch_rng


@dataclass(frozen=True)
class UnetRecipe:
    """What decides the result of a run, besides the corpus. From `large_from` on crops are `large_px` wide.

    A batch is computed in `parts` parts, each on a thread, whose gradients are averaged.
    """

    steps: int = 8000
    batch: int = 16
    size_px: int = 128
    large_from: int = 6000
    large_batch: int = 8
    large_px: int = 256
    wide_share: float = 0.0
    peak_rate: float = 4e-4
    warm_up: int = 300
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
    law: NoiseLaw
    seed: int
    wide_share: float

    @classmethod
    def of(cls, corpus: Corpus, space: LatentSpace, recipe: UnetRecipe) -> Source:
        return cls(corpus, space, NoiseLaw(make_scheduler().alphas_cumprod), recipe.seed, recipe.wide_share)

    def draw(self, step: int, batch: int, size_px: int) -> tuple[Example, list[str]]:
        rng = numpy_rng(self.seed, step, "unet")
        crops = draw_batch(self.corpus.at_least(min(size_px, 200)), rng, batch, size_px)
        mask = torch.from_numpy(np.stack([self._mask(rng, size_px) for _ in range(batch)])).unsqueeze(1).float()
        texts = [caption(rng, *row) for row in zip(crops.image, mask, crops.titles, strict=True)]
        cells = size_px // CELL_PX
        noise = draw_noise(
            (batch, self.space.channels, cells, cells), torch_rng(self.seed, step, "noise"), len(self.law.alphas_bar)
        )
        return make_example(self.space, crops.image, mask, noise, self.law), texts

    def _mask(self, rng: np.random.Generator, size_px: int) -> NDArray[np.uint8]:
        draw = draw_wide_mask if rng.random() < self.wide_share else draw_mask
        return draw(rng, size_px)


def train_unet(
    source: Source, painter: Painter, folder: Path, recipe: UnetRecipe, stop_at: int | None = None
) -> Progress:
    """Trains, or goes on from `folder/checkpoint.pt`, until the recipe's last step or `stop_at`."""
    optimizer = torch.optim.AdamW(painter.parameters(), lr=recipe.peak_rate, weight_decay=1e-2, fused=True)
    progress = Progress.start({"unet": painter.unet, "text_encoder": painter.text_encoder}, optimizer)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        progress.restore(checkpoint)
    note_files_seen(folder, source.corpus.files)
    networks = Parallel(painter, recipe.parts)
    end = min(recipe.steps, stop_at or recipe.steps)
    with tqdm(total=end, initial=progress.step, desc="unet", mininterval=10) as bar:
        while progress.step < end:
            loss = _train_step(networks, source, progress, recipe)
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if progress.step % recipe.save_every == 0 or progress.step == end:
                progress.save(checkpoint)
    return progress


def _train_step(networks: Parallel, source: Source, progress: Progress, recipe: UnetRecipe) -> float:
    set_learning_rate(progress.optimizer, learning_rate(progress.step, recipe.steps, recipe.peak_rate, recipe.warm_up))
    example, texts = source.draw(progress.step, *recipe.at(progress.step))
    share = len(texts) // len(networks.painters)

    def loss_of(painter: Painter, part: int) -> Tensor:
        rows = slice(part * share, (part + 1) * share)
        mine = example.part(rows)
        return simple_loss(painter.predict(mine, texts[rows]), mine.target, mine.weight)

    loss = networks.backward(loss_of)
    torch.nn.utils.clip_grad_norm_(networks.painters[0].parameters(), 1.0)
    progress.optimizer.step()
    progress.step += 1
    progress.average(recipe.decay)
    return loss
