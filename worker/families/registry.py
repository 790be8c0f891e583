"""Family names of the catalog -> the class of its loaded models."""

from jobs.families import Family
from worker.families.flux import Flux
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.qwen_image import QwenImage
from worker.families.sd import StableDiffusion
from worker.families.sd3 import StableDiffusion3
from worker.families.sdxl import StableDiffusionXL

CLASSES: tuple[type[LatentDiffusion], ...] = (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux, QwenImage)

FAMILIES: dict[Family, type[LatentDiffusion]] = {one.family: one for one in CLASSES}
"""Without ``feedforward``, whose class takes a network and its convention instead of a pipeline."""
