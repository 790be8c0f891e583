"""Networks without denoising: image with its hole and mask in, picture out, in one call.

A state is stepped once, and what the network "predicts" is the picture. There is no VAE, no scheduler and no noise, so
all seeds give the same picture. What is not hole is the photo's own, whatever the network makes of it.

Conventions (mask: 1 = hole; picture: RGB):

- ``lama``: LaMa (Suvorov et al. 2022) as its TorchScript is distributed: two arguments, the picture (N, 3, H, W) in 0
  to 1, black in the hole, and the mask (N, 1, H, W); returns 0 to 1. Sides are multiples of 8, as every canvas's are.
- ``migan``: MI-GAN (Sargsyan et al. 2023): one argument, (N, 4, S, S): 0.5 - mask, and the picture in -1 to 1, 0 in
  the hole; returns -1 to 1. S is the one size it was trained at; a smaller canvas is mirrored to it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from jobs.errors import BadModel, NoSurroundings, NotFinite
from jobs.feedforward import FIXED_SIZE, Convention
from jobs.schema import InpaintParameters, PromptSyntax, PromptTokens
from worker.denoise.device import is_out_of_memory
from worker.denoise.state import AdapterSet, BatchKey, State
from worker.denoise.transfer import to_device
from worker.families.base import Clock
from worker.families.compiled_calls import CompiledCalls
from worker.pixels.canvas import Canvas, Pixels

TRIAL_PX = 64
"""Side of the picture by which a network of any size is tried when it is loaded."""

Network = Callable[..., torch.Tensor]
Tensor = torch.Tensor


@dataclass(eq=False, kw_only=True)
class PaintState(State):
    """One image: ``picture`` (1, 3, H, W), 0 to 1, and ``hole`` (1, 1, H, W), 0 or 1.

    ``size``: height and width of the canvas, the part of it from the upper left corner on.
    """

    picture: Tensor
    hole: Tensor
    size: tuple[int, int]


def _lama(network: Network, picture: Tensor, hole: Tensor) -> Tensor:
    return network(picture * (1 - hole), hole)


def _migan(network: Network, picture: Tensor, hole: Tensor) -> Tensor:
    return (network(torch.cat([0.5 - hole, (2 * picture - 1) * (1 - hole)], dim=1)) + 1) / 2


CALLS: dict[Convention, Callable[[Network, Tensor, Tensor], Tensor]] = {"lama": _lama, "migan": _migan}
"""How each convention is called: network, picture (N, 3, H, W) and hole (N, 1, H, W) to the picture, all 0 to 1."""


class FeedForward:
    """A loaded network: ``worker.families.base.FamilyOf[PaintState]``.

    Args:
        name: the model's name in the catalog.
        network: on its device, in float32.
        convention: how it is called.
        size_px: the side that it was trained at; of a convention of fixed size, the only one it runs at.

    Raises:
        BadModel: it does not take or return what its convention says.
    """

    pipeline = None
    latent_factor = 1
    tile_px = math.inf
    schedulers = ("none",)

    def __init__(self, name: str, network: torch.nn.Module, convention: Convention, size_px: int) -> None:
        self.name = name
        self.network = network
        self.device = next((part.device for part in network.parameters()), torch.device("cpu"))
        self.fixed_px = size_px if convention in FIXED_SIZE else None
        self._call = CALLS[convention]
        self.compiled = CompiledCalls()
        self._try(convention, self.fixed_px or TRIAL_PX)

    @torch.inference_mode()
    def _try(self, convention: Convention, side_px: int) -> None:
        """Paint any picture."""
        picture = torch.full((1, 3, side_px, side_px), 0.5, device=self.device)
        hole = torch.zeros_like(picture[:, :1])
        hole[..., : side_px // 2, : side_px // 2] = 1
        try:
            self._painted(picture, hole)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[-1]
            raise BadModel(f"Model {self.name!r}: the network cannot be called as {convention!r}: {reason}") from error

    @contextmanager
    def tiled(self) -> Iterator[None]:
        """Nothing is: there is no VAE."""
        yield

    def prompt_tokens(self, prompt: str, syntax: PromptSyntax) -> list[PromptTokens]:
        return []

    @torch.inference_mode()
    def prepare(
        self, canvas: Canvas, parameters: InpaintParameters, clock: Clock, adapters: AdapterSet = ()
    ) -> list[PaintState]:
        clock("vae_encode")
        image, hole = self._framed(canvas.image), self._framed(_hole(canvas.mask, self.name))
        picture = self._uploaded(image).permute(2, 0, 1)[None].float() / 255
        key = BatchKey(self.name, tuple(picture.shape), picture.dtype, guided=False)
        uploaded, (height, width) = self._uploaded(hole)[None, None].float(), canvas.mask.shape
        return [
            PaintState(key=key, steps=1, picture=picture, hole=uploaded, size=(height, width)) for _ in parameters.seeds
        ]

    def _framed(self, pixels: Pixels) -> Pixels:
        """(h, w, ...) mirrored to the fixed size, to the right and below."""
        if self.fixed_px is None:
            return pixels
        missing = [(0, self.fixed_px - side) for side in pixels.shape[:2]]
        return np.pad(pixels, missing + [(0, 0)] * (pixels.ndim - 2), mode="symmetric")

    def _uploaded(self, pixels: Pixels) -> Tensor:
        return to_device(torch.tensor(pixels), self.device)

    @torch.inference_mode()
    def predict(self, states: Sequence[PaintState]) -> Tensor:
        """The pictures, (rows, 3, H, W), about 0 to 1."""
        return self._painted(torch.cat([it.picture for it in states]), torch.cat([it.hole for it in states]))

    def _painted(self, picture: Tensor, hole: Tensor) -> Tensor:
        # TorchScript's optimizer rewrites a network after its first calls: pixels of the same request may then differ
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            painted = self._call(self.network, picture, hole)
        if painted.shape != picture.shape:
            raise ValueError(f"it returns {tuple(painted.shape)} for a picture of {tuple(picture.shape)}")
        return torch.where(hole > 0, painted.float(), picture)

    @torch.inference_mode()
    def advance(self, states: Sequence[PaintState], noise_pred: Tensor) -> None:
        for state, painted in zip(states, noise_pred.split(1), strict=True):
            state.picture = painted
            state.go_on()

    def preview(self, state: PaintState) -> Tensor:
        raise NotImplementedError("the last step of a job has no preview, and here it is the only one")

    @torch.inference_mode()
    def finish(self, states: Sequence[PaintState]) -> Pixels:
        picture = torch.cat([_cut(state.picture, state.size) for state in states])
        if not picture.isfinite().all().item():
            raise NotFinite(
                f"The picture of model {self.name!r} has come out as infinite or no numbers. The network's weights are "
                "damaged, or it is of another convention than the catalog says."
            )
        return np.asarray(_pixels(picture).cpu())


def _hole(mask: Pixels, name: str) -> Pixels:
    """1 where a canvas's mask hides a pixel, even in part, else 0; where it hides all, what it hides least is known.

    Raises NoSurroundings where all is hidden wholly.
    """
    if mask.min() == 255:
        raise NoSurroundings(
            "mask: grown and feathered as asked, it leaves nothing of the picture known that is not transparent, and "
            f"model {name!r} paints from what surrounds a hole. Leave an opaque part of the picture out of the mask, "
            "send a smaller mask_grow or mask_feather, or name a model whose needs_surroundings is false in /v1/models."
        )
    return np.asarray(mask > mask.min(), np.uint8)


def _cut(picture: Tensor, size: tuple[int, int]) -> Tensor:
    return picture[..., : size[0], : size[1]]


def _pixels(picture: Tensor) -> Tensor:
    """(rows, 3, H, W), 0 to 1, to (rows, H, W, 3), uint8."""
    return (picture * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
