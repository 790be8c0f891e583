"""The training of the small VAE: its latent space is fixed, its encoder exact, so only the decoder learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from tqdm import tqdm

from recipe.latent_space import SCALING_FACTOR, LatentSpace
from recipe.parts import make_vae
from worker.training.corpus import Corpus, draw_batch
from worker.training.run import TrainingState, learning_rate, record_files_seen, set_learning_rate
from worker.training.seeds import numpy_rng


@dataclass(frozen=True)
class VaeRecipe:
    """What decides the result of a run, besides the corpus."""

    steps: int = 5000
    batch: int = 16
    size_px: int = 64
    peak_rate: float = 2e-3
    warm_up: int = 200
    edge_weight: float = 0.5
    seed: int = 0
    save_every: int = 250


def reconstruction_loss(output: Tensor, image: Tensor, edge_weight: float) -> Tensor:
    """L1 of the pixels plus a little L1 of their differences, which asks for edges. (B, 3, H, W) each."""
    error = output - image
    across, down = error[..., :, 1:] - error[..., :, :-1], error[..., 1:, :] - error[..., :-1, :]
    return error.abs().mean() + edge_weight * (across.abs().mean() + down.abs().mean())


def train_vae(
    corpus: Corpus, space: LatentSpace, folder: Path, recipe: VaeRecipe, stop_at: int | None = None
) -> AutoencoderTiny:
    """Trains, or goes on from `folder/checkpoint.pt`, to the last step or `stop_at`; returns the averaged network."""
    torch.manual_seed(recipe.seed)
    vae = make_vae(space)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=recipe.peak_rate, weight_decay=1e-3, fused=True)
    progress = TrainingState.start({"decoder": vae.decoder}, optimizer)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        progress.restore(checkpoint)
    record_files_seen(folder, corpus.files)
    end = min(recipe.steps, stop_at or recipe.steps)
    with tqdm(total=end, initial=progress.step, desc="vae", mininterval=10) as bar:
        while progress.step < end:
            loss = _train_step(vae, corpus, space, progress, recipe)
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if progress.step % recipe.save_every == 0 or progress.step == end:
                progress.save(checkpoint)
    vae.decoder.load_state_dict(progress.averages["decoder"])
    return vae


def _train_step(
    vae: AutoencoderTiny, corpus: Corpus, space: LatentSpace, progress: TrainingState, recipe: VaeRecipe
) -> float:
    rng = numpy_rng(recipe.seed, progress.step, "vae")
    image = draw_batch(corpus, rng, recipe.batch, recipe.size_px).image
    set_learning_rate(progress.optimizer, learning_rate(progress.step, recipe.steps, recipe.peak_rate, recipe.warm_up))
    loss = reconstruction_loss(vae.decoder(space.encode(image) / SCALING_FACTOR), image, recipe.edge_weight)
    progress.optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
    progress.optimizer.step()
    progress.step += 1
    progress.average(0.999)
    return loss.item()
