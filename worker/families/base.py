"""What the engine asks of a family. A family knows a network; a mode knows how inpainting is done with it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import torch

from jobs.schema import InpaintParameters, PromptSyntax, PromptTokens
from worker.denoise.state import AdapterSet, State
from worker.families.compiled_calls import CompiledCalls
from worker.pixels.canvas import Canvas, Pixels

Clock = Callable[[str], None]
"""Called with the name of the phase that begins, one of ``worker.engine.stopwatch.PHASES``."""


S = TypeVar("S", bound=State)


class FamilyOf(Protocol[S]):
    """A loaded model, whose images are states of kind ``S``."""

    name: str
    pipeline: Any
    """diffusers' own, which the networks belong to; adapters are read by it. None: a network without one."""
    network: Any
    """The network that is called at each step."""
    latent_factor: int
    """Pixels that one cell of a state's ``key.latent_shape`` spans."""
    compiled: CompiledCalls
    """Empty where nothing is compiled."""

    @property
    def tile_px(self) -> float:
        """Side in px above which ``tiled`` makes a difference; infinite where the VAE tiles anyway."""
        ...

    def tiled(self) -> AbstractContextManager[None]:
        """Inside, the VAE works tile by tile, in less memory; pictures differ a little."""
        ...

    @property
    def schedulers(self) -> Sequence[str]:
        """Names of the noise schedulers that fit the model (``worker.denoise.noise_laws``)."""
        ...

    def prepare(
        self, canvas: Canvas, parameters: InpaintParameters, clock: Clock, adapters: AdapterSet = ()
    ) -> list[S]:
        """Encode prompt, image and mask and draw the noise: one state for each of the ``n`` images.

        ``adapters`` act on the model just now; the states are to be stepped with the same ones.
        """
        ...

    def prompt_tokens(self, prompt: str, syntax: PromptSyntax) -> list[PromptTokens]:
        """How much of a prompt is read by each text encoder whose reading has a limit."""
        ...

    def predict(self, states: Sequence[S]) -> torch.Tensor:
        """One forward pass for states of one key: the guided network output, (rows, C, h, w)."""
        ...

    def advance(self, states: Sequence[S], noise_pred: torch.Tensor) -> None:
        """Take one step of each state's own scheduler; ``noise_pred`` is (rows, C, h, w).

        A state that cannot be stepped has its ``error`` set.
        """
        ...

    def preview(self, state: S) -> torch.Tensor:
        """A small picture of a state with an ``estimate``: (h, w, 3), uint8, on the device. Nothing is waited for
        but the first one's preparation.
        """
        ...

    def finish(self, states: Sequence[S]) -> Pixels:
        """Decode finished states: (rows, H, W, 3), uint8."""
        ...


Family = FamilyOf[Any]
"""A loaded model of any family."""
