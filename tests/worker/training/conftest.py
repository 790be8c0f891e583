"""A corpus of drawn pictures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

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
