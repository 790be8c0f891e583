"""What the engine asks of a family. A family knows a network; a mode knows how inpainting is done with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.schema import InpaintParameters
from worker.encodings import digest
from worker.fill import soft_fill
from worker.masks import blended
from worker.state import AdapterSet, DenoiseState

Pixels = NDArray[np.uint8]
Clock = Callable[[str], None]
"""Called with the name of the phase that begins, one of ``worker.stopwatch.PHASES``."""


@dataclass(frozen=True)
class Canvas:
    """The pixels a job is run on: ``image`` (h, w, 3) and ``mask`` (h, w), uint8.

    ``mask`` is how far a pixel is hidden from the network and free to be repainted (``jobs.mask_values.hidden``): 0 is
    known, 255 unknown. ``start_filled``: whether denoising at a strength below 1 begins from the filled image instead
    of the image.
    """

    image: Pixels
    mask: Pixels
    start_filled: bool = False

    @cached_property
    def filled(self) -> Pixels:
        """The image with its hole filled from its surroundings; in part where the mask is soft."""
        return blended(self.image, soft_fill(self.image, self.mask), self.mask)

    @cached_property
    def digests(self) -> tuple[bytes, bytes]:
        """Of the image and of the mask: all that the pictures depend on that a family encodes."""
        return digest(self.image), digest(self.mask)

    @property
    def start(self) -> Pixels:
        return self.filled if self.start_filled else self.image


class Family(Protocol):
    """A loaded model."""

    name: str
    pipeline: Any
    """diffusers' own, which the networks belong to; adapters are read by it."""
    network: Any
    """The denoising network, one of the pipeline's."""
    latent_factor: int
    """Pixels that one latent cell spans."""

    @property
    def schedulers(self) -> Sequence[str]:
        """Names of the noise schedulers that fit the model (``worker.noise_laws``)."""
        ...

    def prepare(
        self, canvas: Canvas, parameters: InpaintParameters, clock: Clock, adapters: AdapterSet = ()
    ) -> list[DenoiseState]:
        """Encode prompt, image and mask and draw the noise: one state for each of the ``n`` images.

        ``adapters`` act on the model just now; the states are to be stepped with the same ones.
        """
        ...

    def prompts_cut(self, parameters: InpaintParameters, guided: bool) -> bool:
        """Whether a part of the prompt, or where guidance is computed of the negative prompt, reaches no encoder."""
        ...

    def predict(self, states: Sequence[DenoiseState]) -> torch.Tensor:
        """One forward pass for states of one key: the guided network output, (rows, C, h, w)."""
        ...

    def advance(self, states: Sequence[DenoiseState], noise_pred: torch.Tensor) -> None:
        """Take one step of each state's own scheduler; ``noise_pred`` is (rows, C, h, w).

        A state that cannot be stepped has its ``error`` set.
        """
        ...

    def finish(self, states: Sequence[DenoiseState]) -> Pixels:
        """Decode finished states: (rows, H, W, 3), uint8."""
        ...
