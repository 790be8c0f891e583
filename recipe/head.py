"""The U-Net's last convolution, fitted in closed form to what the rest of the network finds.

A network that is to say something else than before (the difference from a fill instead of the picture) has most of what
it needs in its features. Least squares reads it from them in a minute; gradient steps go on from there.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from recipe.example import Example
from recipe.painter import Painter

RIDGE = 1e-3


@torch.no_grad()
def fit_head(painter: Painter, batches: Iterable[tuple[Example, list[str]]]) -> None:
    """Sets `conv_out` to the weighted least-squares answer over the batches (examples, captions).

    With features f (a 3x3 patch of every channel, and 1), targets y and weights w of the loss, over all cells:
    head = (sum w f f' + ridge)^-1 sum w f y'.
    """
    head = painter.unet.conv_out
    size = head.in_channels * 9 + 1
    squares = torch.zeros(size, size, dtype=torch.float64)
    products = torch.zeros(size, head.out_channels, dtype=torch.float64)
    for example, texts in batches:
        features = _features(painter, example, texts)
        wanted, weight = (_cells(part) for part in (example.target, example.weight))
        weighted = features * weight
        squares += weighted.T @ features
        products += weighted.T @ wanted
    squares.diagonal().add_(RIDGE * squares.diagonal().mean())
    solved = torch.linalg.solve(squares, products).T.float()  # (C, size)
    head.weight.copy_(solved[:, :-1].reshape(head.weight.shape))
    head.bias.copy_(solved[:, -1])


def _features(painter: Painter, example: Example, texts: list[str]) -> Tensor:
    """What the last convolution is given, one row a cell: (B h w, 9 in_channels + 1)."""
    seen: list[Tensor] = []
    hook = painter.unet.conv_out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        painter.predict(example, texts)
    finally:
        hook.remove()
    patches = _cells(F.unfold(seen[0].contiguous(), 3, padding=1))
    return torch.cat([patches, torch.ones(len(patches), 1)], dim=1)


def _cells(grid: Tensor) -> Tensor:
    """(B, C, ...) -> (B cells, C)."""
    return grid.flatten(2).transpose(1, 2).flatten(0, 1)
