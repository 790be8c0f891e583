"""How a network inpaints: by further input channels, on a fill, or by recomposing the latents after each step.

All speak of masks the same way: 1 = repaint. Those with a soft mask hold its cells to the original until the step that
their value names (``worker.pixels.masks.held``).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import torch

from jobs.errors import BadModel
from worker.denoise.state import DenoiseState, Fill
from worker.denoise.transfer import columns
from worker.pixels.canvas import Canvas
from worker.pixels.masks import held

Shown = Literal["image", "filled", "masked"]
"""A canvas's pictures that are encoded."""


class CanvasEncoder(Protocol):
    """What a mode needs of a family. Latents are (1, C, h, w); all that draws takes the job's generator."""

    def encoded(self, shown: Shown, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        """Latents of one of a canvas's pictures, drawn from its posterior."""
        ...

    def likeliest(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """Latents of one of a canvas's pictures at the mode of its posterior; nothing is drawn."""
        ...

    def decoding_error(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """A canvas's picture minus its decoded likeliest latents, (1, 3, H, W)."""
        ...

    def draw(self, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        """Noise of unit variance."""
        ...

    def extra_channels(self, repaint: torch.Tensor, masked_image_latents: torch.Tensor, canvas: Canvas) -> torch.Tensor:
        """(1, 1, h, w) and (1, C, h, w) -> (1, C' - C, h, w)."""
        ...


class Mode(ABC):
    """The seam between a family and the way it inpaints."""

    name: str
    fills_holes = False
    """Whether a hole is filled from its surroundings first, so that some of the picture must be known."""

    @abstractmethod
    def needs_image_latents(self, soft: bool) -> bool:
        """Whether ``after_step`` reads the image latents; ``soft``: whether the mask has cells to be held."""

    @abstractmethod
    def concat_channels(
        self, model: CanvasEncoder, canvas: Canvas, repaint: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor | None:
        """What the network sees after the latents, (1, C' - C, h, w); None: nothing."""

    @abstractmethod
    def network_input(self, states: Sequence[DenoiseState], latents: torch.Tensor) -> torch.Tensor:
        """The network's input: (rows, C', h, w), of which the first C channels are the scaled latents."""

    @abstractmethod
    def after_step(self, states: Sequence[DenoiseState], latents: torch.Tensor) -> torch.Tensor:
        """The latents after a network call and its step, (rows, C, h, w), once ``state.index`` names the next call."""

    # ---- what the network's latents mean: the picture's own, but for FillMode

    def fill(self, model: CanvasEncoder, canvas: Canvas) -> Fill | None:
        """What is kept of the filled picture until the end."""
        return None

    def filled_latents(self, model: CanvasEncoder, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        """Latents of the filled picture, (1, C, h, w), for a denoising that starts from it."""
        return model.encoded("filled", canvas, generator)

    def offsets(self, model: CanvasEncoder, canvas: Canvas, latents: torch.Tensor) -> torch.Tensor:
        """The picture's latents as the network's, (1, C, h, w)."""
        return latents

    def final_latents(self, state: DenoiseState) -> torch.Tensor:
        """The network's latents as the picture's, (1, C, h, w)."""
        return state.latents

    def finished(self, state: DenoiseState, image: torch.Tensor) -> torch.Tensor:
        """The picture, (3, H, W), of the decoded ``final_latents``, (3, H, W); both -1 to 1."""
        return image


class ConcatMode(Mode):
    """For networks that take mask and masked image as further input channels (Stable Diffusion: 9 in all)."""

    name = "concat"

    def needs_image_latents(self, soft: bool) -> bool:
        return soft

    def concat_channels(
        self, model: CanvasEncoder, canvas: Canvas, repaint: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor | None:
        return model.extra_channels(repaint, model.encoded("masked", canvas, generator), canvas)

    def network_input(self, states: Sequence[DenoiseState], latents: torch.Tensor) -> torch.Tensor:
        return torch.cat([latents, _stacked([state.extra_channels for state in states])], dim=1)

    def after_step(self, states: Sequence[DenoiseState], latents: torch.Tensor) -> torch.Tensor:
        """Hold the cells of a soft mask. A black and white one needs nothing: the network keeps what it sees."""
        soft = [state for state in states if state.soft]
        if len(soft) in (0, len(states)):
            return recompose(soft, latents, known_cells=False) if soft else latents
        rows = latents.split(1)
        parts = torch.cat([row for state, row in zip(states, rows, strict=True) if state.soft])
        recomposed = iter(recompose(soft, parts, known_cells=False).split(1))
        return torch.cat([next(recomposed) if state.soft else row for state, row in zip(states, rows, strict=True)])


class FillMode(ConcatMode):
    """For concat networks whose config sets ``paints_on_fill``: the pocket model's.

    The network sees the filled picture, not one with a grey hole, and predicts the difference to it: its latents are
    the picture's less the likeliest ones of the filled picture (the base latents). What decoding the base loses is
    added at the end, so a network that outputs zero returns the fill unchanged.
    """

    name = "fill"
    fills_holes = True

    def needs_image_latents(self, soft: bool) -> bool:
        return False

    def concat_channels(
        self, model: CanvasEncoder, canvas: Canvas, repaint: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor | None:
        return model.extra_channels(repaint, model.likeliest("filled", canvas), canvas)

    def after_step(self, states: Sequence[DenoiseState], latents: torch.Tensor) -> torch.Tensor:
        """Hold nothing: the first step would decide the cells of a soft mask, and their base is soft itself."""
        return latents

    def fill(self, model: CanvasEncoder, canvas: Canvas) -> Fill | None:
        return Fill(model.likeliest("filled", canvas), model.decoding_error("filled", canvas))

    def filled_latents(self, model: CanvasEncoder, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        return model.likeliest("filled", canvas)

    def offsets(self, model: CanvasEncoder, canvas: Canvas, latents: torch.Tensor) -> torch.Tensor:
        return latents - model.likeliest("filled", canvas)

    def final_latents(self, state: DenoiseState) -> torch.Tensor:
        """Outside the mask the base alone. That of a soft cell is filled in part already; its offset counts less."""
        assert state.fill is not None
        return state.latents * state.mask + state.fill.base_latents

    def finished(self, state: DenoiseState, image: torch.Tensor) -> torch.Tensor:
        assert state.fill is not None
        return image + state.fill.error[0]


class RecomposeMode(Mode):
    """For networks that take latents only: what the mask keeps is put back after each step, noised to its level.

    ``latents = mask * latents + (1 - mask) * noised(image_latents, next timestep)``. The legacy form of diffusers,
    ``init_latents_proper * mask + latents * (1 - mask)``, is the same with the opposite polarity: there 1 means keep.
    """

    name = "recompose"

    def needs_image_latents(self, soft: bool) -> bool:
        return True

    def concat_channels(
        self, model: CanvasEncoder, canvas: Canvas, repaint: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor | None:
        """Nothing. diffusers encodes the masked image in every mode; without its draw all later ones would shift."""
        model.draw(canvas, generator)
        return None

    def network_input(self, states: Sequence[DenoiseState], latents: torch.Tensor) -> torch.Tensor:
        return latents

    def after_step(self, states: Sequence[DenoiseState], latents: torch.Tensor) -> torch.Tensor:
        return recompose(states, latents, known_cells=True)


def recompose(states: Sequence[DenoiseState], latents: torch.Tensor, known_cells: bool) -> torch.Tensor:
    """``keep * noised original + (1 - keep) * latents``, (rows, C, h, w): ``keep`` is how far a cell is still held.

    ``known_cells``: whether those of value 0 are held too, which are never released.
    """
    numbers = [(state.step, state.steps, *state.levels) for state in states]
    step, steps, clean, noise = columns(numbers, latents.device)
    mask = torch.cat([state.mask for state in states])
    keep = held(mask, step, steps)
    keep = keep if known_cells else keep * (mask > 0)
    image, drawn = _stacked([state.image_latents for state in states]), _stacked([state.noise for state in states])
    return torch.lerp(latents.float(), clean * image + noise * drawn, keep)


def _stacked(parts: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """One of each image, all of which have it: (rows, C, h, w)."""
    known = [part for part in parts if part is not None]
    assert len(known) == len(parts)
    return torch.cat(known)


def mode_for(in_channels: int, known: Mapping[str, int], whose: str, paints_on_fill: bool = False) -> Mode:
    """The mode that a network with so many input channels was made for.

    Args:
        known: mode name -> input channels of a network made for it.
        whose: how the sentence of an error begins.
        paints_on_fill: as the network's config has it.

    Raises:
        BadModel: it was made for none of them; the sentence names what it probably is.
    """
    if known.get("concat") == in_channels:
        return FillMode() if paints_on_fill else ConcatMode()
    if paints_on_fill:
        raise BadModel(
            f"{whose}: its config sets paints_on_fill, which only a network of {known.get('concat')} input channels "
            f"can do, and it takes {in_channels}."
        )
    if known["recompose"] == in_channels:
        return RecomposeMode()
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
