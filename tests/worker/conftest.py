"""For tests of the worker."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def batches_whole() -> Iterator[None]:
    """A network gets its batches whole, as on a GPU: a CPU of several threads computes parts of them side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
