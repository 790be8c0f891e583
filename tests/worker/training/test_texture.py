"""A real training on the embedded model: an adapter learns a texture, and paints it into photos it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from jobs.schema import InpaintRequest
from worker.pixels.canvas import Canvas, Pixels
from worker.training.composition import Composer
from worker.training.corpus import Corpus, Photo
from worker.training.lora import add_lora
from worker.training.sheet import paint
from worker.training.tuning import LoraRecipe, Tuning
from worker.training.tuning_commands import load_for_training

SIDE_PX, STRIPE_PX = (
    64,
    12,
)  # too wide for the detail of the fill, which the model starts from, and too narrow for its surface
YELLOW, BLUE = (230, 220, 60), (20, 40, 120)
RECIPE = LoraRecipe(
    steps=130,
    batch=8,
    size_px=SIDE_PX,
    peak_rate=6e-3,
    warm_up=10,
    decay=0.9,
    last_share=0.9,  # where this model settles what fills a hole
    rank=16,
    layers="all",
    save_every=1000,
    sample_every=1000,
)


def striped(seed: int) -> Pixels:
    """Upright stripes that begin anywhere: where they go on in a hole can only be told from what is around it."""
    across = (np.arange(SIDE_PX) + np.random.default_rng(seed).integers(2 * STRIPE_PX)) // STRIPE_PX % 2
    row = np.where(across[:, None] == 1, YELLOW, BLUE).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row, (SIDE_PX, SIDE_PX, 3)))


def distance(composer: Composer, seeds: range) -> float:
    """Mean difference inside the hole between what is painted and the photo, in grey levels."""
    quarter, found = SIDE_PX // 4, []
    for seed in seeds:
        photo, mask = striped(seed), np.zeros((SIDE_PX, SIDE_PX), np.uint8)
        mask[quarter:-quarter, quarter:-quarter] = 255
        painted = paint(composer, Canvas(photo, mask))
        assert (painted[mask == 0] == photo[mask == 0]).all()
        found.append(np.abs(painted.astype(float) - photo)[mask > 0].mean())
    return float(np.mean(found))


def test_an_adapter_for_the_pocket_model_learns_a_texture_and_paints_it_into_photos_it_never_saw(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    family, entry = load_for_training("pocket", whole=False)
    trained = add_lora(family.network, RECIPE.rank, RECIPE.seed, "all")
    photos = [Photo(f"{seed}.png", "", striped(seed)) for seed in range(24)]
    asked = entry.resolve("pocket", InpaintRequest(seed=0)).model_copy(update={"num_inference_steps": 8})
    composer = Composer(family, Corpus.of(photos), asked, RECIPE)
    plain = distance(composer, range(100, 106))
    Tuning(composer, trained, RECIPE, tmp_path, keep=lambda: None).run()
    assert distance(composer, range(100, 106)) < 0.6 * plain
