"""What a person looks at during a run: the loss curve, and photos with holes that the model fills."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from jobs.schema import InpaintParameters
from worker.families.latent_diffusion import LatentDiffusion
from worker.pixels.canvas import Canvas, Pixels
from worker.training.composition import Composer
from worker.training.corpus import draw_crop
from worker.training.seeds import numpy_rng

SHOWN = 4
SMOOTHED_OVER = 50
HOLE_GREY = 128


def loss_curve(losses: list[float], path: Path) -> None:
    """Each step's loss, and the mean of the last fifty."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    sums = np.cumsum([0.0, *losses])
    ends = np.arange(1, len(sums))
    begins = np.maximum(ends - SMOOTHED_OVER, 0)
    axes.plot(ends, losses, linewidth=0.5, alpha=0.4)
    axes.plot(ends, (sums[ends] - sums[begins]) / (ends - begins), linewidth=1.5, label=f"mean of {SMOOTHED_OVER}")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def sample_sheet(composer: Composer, path: Path) -> None:
    """One row for each of a few photos: with its hole, and filled by the model as it is now. Always the same photos."""
    rows = [np.concatenate([_with_hole(canvas), paint(composer, canvas)], axis=1) for canvas in _shown(composer)]
    Image.fromarray(np.concatenate(rows)).save(path)


def paint(composer: Composer, canvas: Canvas) -> Pixels:
    """The hole painted from noise, without a prompt, by the model's own steps and guidance; the rest as it was."""
    asked = composer.parameters.model_copy(update={"strength": 1.0, "masked_content": "original"})
    return np.where(canvas.mask[..., None] > 0, _denoised(composer.family, canvas, asked), canvas.image)


def _denoised(family: LatentDiffusion, canvas: Canvas, parameters: InpaintParameters) -> Pixels:
    training = family.network.training
    family.network.eval()
    states = family.prepare(canvas, parameters, lambda _phase: None)
    while not states[0].done:
        family.advance(states, family.predict(states))
    family.network.train(training)
    painted: Pixels = family.finish(states)[0]
    return painted


def _shown(composer: Composer) -> list[Canvas]:
    rng = numpy_rng(composer.choices.seed, 0, "sheet")
    photos = composer.corpus.photos[:SHOWN]
    crops = [draw_crop(photo.pixels, rng, composer.choices.size_px) for photo in photos]
    return [composer.canvas(torch.from_numpy(crop / 127.5 - 1).permute(2, 0, 1), rng) for crop in crops]


def _with_hole(canvas: Canvas) -> Pixels:
    return np.where(canvas.mask[..., None] > 0, np.uint8(HOLE_GREY), canvas.image)
