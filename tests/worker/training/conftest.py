"""A corpus of drawn pictures and networks of a few thousand weights: all real, all small."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from jobs.schema import InpaintParameters
from worker.families.latent_diffusion import LatentDiffusion
from worker.training.composition import Choices, Composer
from worker.training.corpus import Corpus, Photo
from worker.training.latent_space import LatentSpace, fit_latent_space
from worker.training.painter import Painter
from worker.training.parts import make_text_encoder, make_unet
from worker.training.tokens import train_tokenizer


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth colours with some sharp discs on them."""
    rng = np.random.default_rng(seed)
    pixels = cv2.resize(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.circle(pixels, centre, int(rng.integers(4, 20)), colour, -1)
    return pixels


def tiny_composer(family: LatentDiffusion, choices: Choices) -> Composer:
    """For a model of `tests.worker.tiny`, on three drawn pictures."""
    asked = InpaintParameters(
        model="tiny",
        seed=0,
        num_inference_steps=2,
        guidance_scale=1.0,
        strength=1.0,
        scheduler="flow_euler" if family.flow else "ddim",
        masked_content="original",
    )
    photos = [Photo(f"{seed}.png", f"picture {seed}", picture(seed)) for seed in range(3)]
    return Composer(family, Corpus.of(photos), asked, choices)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return Corpus.of([Photo(f"{seed}.webp", f"Picture {seed}", picture(seed)) for seed in range(6)])


@pytest.fixture(scope="session")
def space(corpus: Corpus) -> LatentSpace:
    return fit_latent_space(corpus, seed=0, crops=64)


@pytest.fixture(scope="session")
def tokenizer() -> CLIPTokenizer:
    return train_tokenizer(["A parrot", "Old stone bridge"], merges=50)


@pytest.fixture
def painter(space: LatentSpace, tokenizer: CLIPTokenizer) -> Painter:
    torch.manual_seed(0)
    unet = make_unet(space.channels, widths=(16, 16, 16), head_dim=8, groups=8)
    return Painter(unet, make_text_encoder(tokenizer), tokenizer)
