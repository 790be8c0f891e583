"""How inpainting is done with a network: by further input channels, or by recomposing the latents after each step.

Both speak of masks the same way: 1 = repaint. Both hold the cells of a soft mask to the original until the step that
their value names (``worker.masks.held``).
"""

from collections.abc import Mapping
from typing import Protocol

import torch

from jobs.errors import BadModel
from worker.masks import held
from worker.state import DenoiseState


class Mode(Protocol):
    """The seam between a family and the way it inpaints."""

    name: str

    def needs_image_latents(self, soft: bool) -> bool:
        """Whether ``after_step`` will ask for the image latents; ``soft``: whether the mask has cells to be held."""
        ...

    def network_input(self, state: DenoiseState) -> torch.Tensor:
        """The network's input of one image: (1, C', h, w), of which the first C channels are its latents."""
        ...

    def after_step(self, state: DenoiseState, step: int) -> torch.Tensor:
        """The latents after a network call of ``step`` (counted from 0), once ``state.index`` names the next call.

        (1, C, h, w). A scheduler of second order calls the network twice a step.
        """
        ...


class ConcatMode:
    """For networks that are shown mask and masked image as further input channels (Stable Diffusion: 9 in all)."""

    name = "concat"

    def needs_image_latents(self, soft: bool) -> bool:
        return soft

    def network_input(self, state: DenoiseState) -> torch.Tensor:
        assert state.extra_channels is not None
        return torch.cat([state.scaled_latents(), state.extra_channels], dim=1)

    def after_step(self, state: DenoiseState, step: int) -> torch.Tensor:
        """Nothing for a black and white mask: the network itself keeps what it is shown. Soft cells are held.

        Not those of a network that paints on a fill: its first step would decide them, and their ground is soft itself.
        """
        if not state.soft or state.ground is not None:
            return state.latents
        return recompose(state, held(state.mask, step, state.steps) * (state.mask > 0))


class RecomposeMode:
    """For networks that are shown latents only: what the mask keeps is put back after each step, noised to its level.

    ``latents = mask * latents + (1 - mask) * noised(image_latents, next timestep)``. The legacy form of diffusers,
    ``init_latents_proper * mask + latents * (1 - mask)``, is the same with the opposite polarity: there 1 means keep.
    """

    name = "recompose"

    def needs_image_latents(self, soft: bool) -> bool:
        return True

    def network_input(self, state: DenoiseState) -> torch.Tensor:
        return state.scaled_latents()

    def after_step(self, state: DenoiseState, step: int) -> torch.Tensor:
        return recompose(state, held(state.mask, step, state.steps))


def recompose(state: DenoiseState, keep: torch.Tensor) -> torch.Tensor:
    """``keep * noised original + (1 - keep) * latents``; ``keep`` is (1, 1, h, w), 1 = original."""
    keep = keep.to(state.latents.dtype)
    return keep * state.noised_original().to(state.latents.dtype) + (1 - keep) * state.latents


def mode_for(in_channels: int, known: Mapping[str, int], whose: str) -> Mode:
    """The mode that a network with so many input channels was made for.

    Args:
        known: mode name -> input channels of a network made for it.
        whose: how the sentence of an error begins.

    Raises:
        BadModel: it was made for neither; says what it probably is.
    """
    modes: tuple[Mode, ...] = (ConcatMode(), RecomposeMode())
    for mode in modes:
        if known.get(mode.name) == in_channels:
            return mode
    kinds = {"concat": "inpainting networks of {} (latents, mask, masked image)", "recompose": "ordinary ones of {}"}
    usable = " and ".join(kind.format(known[mode]) for mode, kind in kinds.items() if mode in known)
    raise BadModel(
        f"{whose}: the network takes {in_channels} input channels, {_what_takes(in_channels, known['recompose'])}. "
        f"Of this family there are {usable}."
    )


def _what_takes(in_channels: int, latents: int) -> str:
    """What a network that was made for neither mode probably is; an ordinary one takes ``latents`` channels."""
    others = {
        2 * latents: "as one that edits by instruction or follows a control image does",
        latents + 1: "as one that follows a depth map does",
        latents + 3: "as an upscaler does",
    }
    return others.get(in_channels, "which fits none of this family")
