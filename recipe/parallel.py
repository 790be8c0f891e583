"""A step's gradient computed in equal parts, each on a thread of its own.

PyTorch's own threads wait for each other at every operation, which on a busy machine costs half of the time. Here the
threads meet once a step: each has a copy of the networks with its own gradients over the one set of weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from recipe.painter import Painter

PartLoss = Callable[[Painter, int], Tensor]


class Parallel:
    """`painters[0]` is the one that the optimizer moves; the others look at its weights."""

    def __init__(self, painter: Painter, parts: int) -> None:
        self.painters = [painter, *(_shadow(painter) for _ in range(parts - 1))]
        self._pool = ThreadPoolExecutor(parts, initializer=torch.set_num_threads, initargs=(1,)) if parts > 1 else None

    def backward(self, loss_of: PartLoss) -> float:
        """Sets the gradients of `painters[0]` to the mean over the parts, added in order; returns the mean loss."""
        jobs = list(range(len(self.painters)))
        run = map if self._pool is None else self._pool.map
        losses = list(run(lambda part: _backward(self.painters[part], part, loss_of), jobs))
        for parameter, *others in zip(*(painter.parameters() for painter in self.painters), strict=True):
            for other in others:
                parameter.grad.add_(other.grad)
            parameter.grad.div_(len(jobs))
        return sum(losses) / len(jobs)


def _backward(painter: Painter, part: int, loss_of: PartLoss) -> float:
    for parameter in painter.parameters():
        parameter.grad = None
    loss = loss_of(painter, part)
    torch.autograd.backward(loss)
    return loss.item()


def _shadow(painter: Painter) -> Painter:
    """A copy that shares the weights, so that a step of the optimizer moves both."""
    shadow = Painter(copy.deepcopy(painter.unet), copy.deepcopy(painter.text_encoder), painter.tokenizer)
    for mine, theirs in zip(shadow.parameters(), painter.parameters(), strict=True):
        mine.data = theirs.data
    return shadow
