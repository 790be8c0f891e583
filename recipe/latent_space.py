"""The latent space: the 16 best linear directions of 8x8 RGB patches, and the exact encoder that computes them.

Nothing here is trained by gradient. A principal component analysis of patches fixes what a latent is before the first
training step, so the decoder and the U-Net can train side by side from the first minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from worker.training.corpus import Corpus, draw_batch
from worker.training.seeds import numpy_rng

CELL_PX = 8
PATCH_DIM = 3 * CELL_PX * CELL_PX
SCALING_FACTOR = 2.0
"""The networks see latents of unit scale, the VAE's own are half of that: `DecoderTiny` squashes its input at 3."""


@dataclass(frozen=True)
class LatentSpace:
    """latent = matrix @ (patch - mean): a patch is (3, 8, 8) in [-1, 1], flattened channel first."""

    matrix: Tensor  # (C, 192)
    inverse: Tensor  # (192, C)
    mean: Tensor  # (192,)

    @property
    def channels(self) -> int:
        return self.matrix.shape[0]

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, C, H/8, W/8): one strided convolution."""
        kernel = self.matrix.view(-1, 3, CELL_PX, CELL_PX)
        return F.conv2d(image, kernel, bias=-self.matrix @ self.mean, stride=CELL_PX)

    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, 8h, 8w): the best linear reconstruction, the bar for a trained decoder."""
        patches = torch.einsum("pc,bchw->bphw", self.inverse, latents) + self.mean.view(1, -1, 1, 1)
        return F.pixel_shuffle(patches, CELL_PX)

    def save(self, path: Path) -> None:
        torch.save({"matrix": self.matrix, "inverse": self.inverse, "mean": self.mean}, path)

    @classmethod
    def load(cls, path: Path) -> LatentSpace:
        return cls(**torch.load(path, weights_only=True))


def fit_latent_space(corpus: Corpus, seed: int, channels: int = 16, crops: int = 4000) -> LatentSpace:
    """PCA of the patches of `crops` random 64 px crops.

    Component i, of standard deviation s_i, is divided by the square root of s_i and all by one common factor that
    makes the mean square of a latent 1. Full whitening (dividing by s_i) would make the faintest texture as loud as the
    colour of a wall; with the square root coarse colour rises out of the noise first, as it does in pictures.
    """
    image = draw_batch(corpus, numpy_rng(seed, 0, "latent-space"), crops, 64).image
    patches = F.pixel_unshuffle(image, CELL_PX).permute(0, 2, 3, 1).reshape(-1, PATCH_DIM).double()
    mean = patches.mean(0)
    eigenvalues, vectors = torch.linalg.eigh(torch.cov(patches.T))
    std, basis = eigenvalues.flip(0)[:channels].sqrt(), vectors.flip(1)[:, :channels].T
    signs = torch.sign(basis.sum(1, keepdim=True))
    scale = (std * std.mean()).rsqrt().unsqueeze(1)
    matrix = (basis * signs * scale).half().double()  # what fp16 weights will hold, so files and training agree
    return LatentSpace(matrix.float(), torch.linalg.pinv(matrix).float(), mean.float())


def exact_encoder(space: LatentSpace, width: int) -> dict[str, Tensor]:
    """Weights for an `EncoderTiny` without blocks that equals `space.encode` divided by `SCALING_FACTOR`.

    It is five convolutions in a row, nothing else. The first passes pixels on, two strided ones only move them (2x2,
    then 4x4 side by side in the channels), the third projects 2x2 groups of those, the last adds the bias.
    A 3x3 kernel of stride 2 and padding 1 sees the 2x2 group under its taps 1 and 2.
    `EncoderTiny` first maps [-1, 1] to [0, 1]; the projection and its bias undo that.
    """
    if width < 48:
        raise ValueError(f"the encoder must be at least 48 channels wide to carry 4x4 RGB pixels, not {width}")
    zeros = {0: (width, 3), 1: (width, width), 2: (width, width), 3: (width, width), 4: (space.channels, width)}
    kernels = {i: torch.zeros(*shape, 3, 3) for i, shape in zeros.items()}
    kernels[0][torch.arange(3), torch.arange(3), 1, 1] = 1.0
    _pack(kernels[1], 3)
    _pack(kernels[2], 12)
    # Channel of kernel 2's output: ((y % 4 // 2, x % 4 // 2), (y % 2, x % 2), rgb), the outermost first.
    project = space.matrix.view(-1, 3, 2, 2, 2, 2, 2, 2)  # (C, rgb, y4, y2, y1, x4, x2, x1)
    project = project.permute(0, 3, 6, 4, 7, 1, 2, 5).reshape(space.channels, 48, 2, 2)
    kernels[3][: space.channels, :48, 1:, 1:] = 2 * project / SCALING_FACTOR
    kernels[4][torch.arange(space.channels), torch.arange(space.channels), 1, 1] = 1.0
    bias = -space.matrix @ (space.mean + 1) / SCALING_FACTOR
    state = {f"layers.{i}.weight": kernel for i, kernel in kernels.items()}
    return state | {"layers.0.bias": torch.zeros(width), "layers.4.bias": bias}


def _pack(kernel: Tensor, channels: int) -> None:
    """Fills a stride-2 3x3 kernel so that it puts each 2x2 group of `channels` channels side by side."""
    for y in range(2):
        for x in range(2):
            for c in range(channels):
                kernel[(2 * y + x) * channels + c, c, 1 + y, 1 + x] = 1.0
