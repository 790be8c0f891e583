"""What one call of a network costs, beside what the machine could do: the floor under every image."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu.budget import Budget
from bench.gpu.timing import median_ms

TOKENS = 77
CALLS_A_CELL = 6
"""A cell costs about as much time as so many of its calls where they are slow, and 2 s where they are fast."""
PARTS = ("step", "vae_decode", "vae_encode")


@dataclass(frozen=True)
class StepTiming:
    """One network call. ``rows``: samples in it; an image with guidance takes two a step. Times and rates are None
    where the device had too little memory; ``share`` is of the machine's matrix rate in the network's dtype."""

    model: str
    part: str
    size_px: int
    rows: int
    tflop: float
    ms: float | None
    tflops: float | None
    share: float | None


@dataclass(frozen=True)
class Measured:
    """What a cell is measured of."""

    name: str
    pipeline: DiffusionPipeline
    device: torch.device
    dtype: torch.dtype


@torch.inference_mode()
def cells(
    model: Measured, part: str, size_px: int, rows: Sequence[int], peak: float, budget: Budget
) -> Iterator[StepTiming]:
    """Cells one by one, until the time is up.

    Args:
        model: a pipeline on its device.
        part: one of ``PARTS``.
        size_px: side of square pictures.
        rows: samples in one call, from few to many.
        peak: TFLOP/s of the matrix rate.
        budget: no cell is begun that would probably outlast it.
    """
    one_row, row_s = forward_tflop(model, part, size_px), 0.0
    for count in rows:
        if not budget.allows(CALLS_A_CELL * row_s * count + 2):
            return
        cell = _cell(model, part, size_px, count, one_row * count, peak)
        yield cell
        if cell.ms is None:
            return  # more rows would fit even less
        row_s = cell.ms / 1000 / count


def _cell(model: Measured, part: str, size_px: int, rows: int, tflop: float, peak: float) -> StepTiming:
    known = (model.name, part, size_px, rows, tflop)
    try:
        call = network_call(model.pipeline, part, size_px, rows, model.device, model.dtype)
        ms = median_ms(call, model.device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return StepTiming(*known, None, None, None)
    rate = tflop / ms * 1000
    return StepTiming(*known, ms, rate, rate / peak)


def forward_tflop(model: Measured, part: str, size_px: int) -> float:
    """Multiplications and additions of one row's call, in 1e12: counted on a twin of the network without any data."""
    with torch.device("meta"):
        twins = {
            name: type(network).from_config(network.config).eval()
            for name, network in (("unet", model.pipeline.unet), ("vae", model.pipeline.vae))
        }
    twin = Parts(**twins, vae_scale_factor=model.pipeline.vae_scale_factor)
    call = network_call(twin, part, size_px, 1, torch.device("meta"), torch.float32)
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e12


@dataclass(frozen=True)
class Parts:
    """What is asked of a pipeline here."""

    unet: Any
    vae: Any
    vae_scale_factor: int


def network_call(
    pipeline: Any, part: str, size_px: int, rows: int, device: torch.device, dtype: torch.dtype
) -> Callable[[], object]:
    """A call with random inputs, which are made once."""

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(rows, *shape, device=device, dtype=dtype)

    unet, vae, side = pipeline.unet, pipeline.vae, size_px // pipeline.vae_scale_factor
    if part == "vae_encode":
        pixels = random(3, size_px, size_px)
        return lambda: vae.encode(pixels)
    if part == "vae_decode":
        latents = random(vae.config.latent_channels, side, side)
        return lambda: vae.decode(latents, return_dict=False)
    inputs, text = random(unet.config.in_channels, side, side), random(TOKENS, unet.config.cross_attention_dim)
    timesteps = torch.full((rows,), 500, device=device)
    added = _added_conditioning(unet.config, random)
    return lambda: unet(inputs, timesteps, text, added_cond_kwargs=added, return_dict=False)


def _added_conditioning(config: Any, random: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor] | None:
    if config.addition_embed_type != "text_time":
        return None
    sizes = 6
    pooled = config.projection_class_embeddings_input_dim - sizes * config.addition_time_embed_dim
    return {"text_embeds": random(pooled), "time_ids": random(sizes)}


def ideal_images_per_s(found: Sequence[StepTiming], peak: float, model: str, size_px: int, calls: int) -> float | None:
    """Images a second if every operation ran at the matrix rate: ``calls`` rows of the network, one encoding (the
    masked image) and one decoding. None where one of them was not measured."""
    one_row = {cell.part: cell.tflop / cell.rows for cell in found if (cell.model, cell.size_px) == (model, size_px)}
    if not all(part in one_row for part in PARTS):
        return None
    return peak / (calls * one_row["step"] + one_row["vae_encode"] + one_row["vae_decode"])
