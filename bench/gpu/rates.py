"""The ceiling: how fast the machine multiplies large matrices. Measured, because data sheets promise more."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.gpu.timing import median_ms

SIDES = {"cuda": (4096, 8192, 16384), "cpu": (256, 512, 1024, 2048)}
LONGEST_S = 1.0
"""No larger product is tried where one would take longer: processors without bf16 units are very slow with it."""


@dataclass(frozen=True)
class Rate:
    """The best of several square products."""

    dtype: str
    tflops: float
    side: int


def matrix_rate(dtype: torch.dtype, device: torch.device, sides: Sequence[int] = ()) -> Rate:
    """Products of random matrices (a device is faster with zeros), the fastest of the sides."""
    name, found = str(dtype).removeprefix("torch."), []
    for side in sides or SIDES.get(device.type, SIDES["cpu"]):
        ms = _product_ms(side, dtype, device)
        found.append(Rate(name, 2 * side**3 / ms / 1e9, side))
        if 8 * ms > 1000 * LONGEST_S:
            break
    return max(found, key=lambda rate: rate.tflops)


def _product_ms(side: int, dtype: torch.dtype, device: torch.device) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    return median_ms(lambda: torch.mm(left, right, out=product), device)
