"""Family names of the catalog -> the class of its loaded models."""

from worker.families.flux import Flux
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.qwen_image import QwenImage
from worker.families.sd import StableDiffusion
from worker.families.sd3 import StableDiffusion3
from worker.families.sdxl import StableDiffusionXL

FAMILIES: dict[str, type[LatentDiffusion]] = {
    "sd": StableDiffusion,
    "sdxl": StableDiffusionXL,
    "sd3": StableDiffusion3,
    "flux": Flux,
    "qwen-image": QwenImage,
}
