"""Random streams that depend on the seed, the step and a name only, so that a resumed run goes on bit for bit."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def numpy_rng(seed: int, step: int, stream: str) -> np.random.Generator:
    """The stream `stream` of step `step`: no state is carried from one step to the next."""
    return np.random.default_rng([seed, step, zlib.crc32(stream.encode())])


def torch_rng(seed: int, step: int, stream: str) -> torch.Generator:
    """The same for tensors."""
    return torch.Generator().manual_seed(int(numpy_rng(seed, step, stream).integers(2**62)))
