"""The perceptual loss over a linear decoder and a small random network of VGG's form."""

import itertools

import torch
from torch import Tensor, nn

from recipe.latent_space import SCALING_FACTOR, LatentSpace
from recipe.perceptual import PerceptualLoss
from recipe.unet import Source
from recipe.vgg_hed import VggHed

CELLS = 4


class LinearDecoder(nn.Module):
    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.space = space

    def forward(self, latents: Tensor) -> Tensor:
        return self.space.decode(latents * SCALING_FACTOR)


def perceptual_loss(space: LatentSpace, source: Source) -> PerceptualLoss:
    torch.manual_seed(0)
    widths = (3, 8, 8)
    blocks = [
        [(torch.randn(out, into, 3, 3) / (3 * into**0.5), torch.zeros(out))] for into, out in itertools.pairwise(widths)
    ]
    eyes = VggHed(blocks, [torch.ones(1, 8, 1, 1)] * 2)
    return PerceptualLoss(LinearDecoder(space), source.law, eyes, CELLS)
