"""A corpus of drawn pictures and networks of a few thousand weights: all real, all small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import CLIPTokenizer

from recipe.latent_space import LatentSpace, fit_latent_space
from recipe.painter import Painter
from recipe.parts import make_text_encoder, make_unet
from recipe.tokens import train_tokenizer
from tests.worker.training.drawn import picture
from worker.training.corpus import Corpus, Photo


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
