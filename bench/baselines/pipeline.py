"""diffusers' inpaint pipeline for the pocket model, as a server that knows nothing else would call it.

``StableDiffusionInpaintPipeline.__call__`` refuses a U-Net of 33 input channels: it takes 4 or 9, whatever the VAE has.
``paint`` is that call without the check and without what is not asked for here (callbacks, IP adapters, guidance): the
pipeline's own methods in the pipeline's own order, on the whole picture at its full size.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.utils import logging
from PIL import Image

from worker.sources import EMBEDDED


class Painter:
    """The pipeline with the pocket model's parts, fp32, on the CPU."""

    def __init__(self, folder: Path = EMBEDDED) -> None:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.pipeline = StableDiffusionInpaintPipeline.from_pretrained(str(folder), dtype=torch.float32)

    @torch.inference_mode()
    def paint(
        self,
        prompts: Sequence[str],
        images: Sequence[Image.Image],
        masks: Sequence[Image.Image],
        seeds: Sequence[int],
        steps: int,
    ) -> list[Image.Image]:
        """A batch of pictures of one size, a multiple of 8; the results have that size. White is repainted."""
        pipeline, rows = self.pipeline, len(prompts)
        (width, height), device = images[0].size, pipeline.unet.device
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        text, _ = pipeline.encode_prompt(list(prompts), device, 1, False)
        pipeline.scheduler.set_timesteps(steps, device=device)
        timesteps, _ = pipeline.get_timesteps(steps, 1.0, device)
        init_image = pipeline.image_processor.preprocess(list(images), height=height, width=width)
        channels = pipeline.vae.config.latent_channels
        (latents,) = pipeline.prepare_latents(
            *(rows, channels, height, width, text.dtype, device, generators),
            image=init_image,
            timestep=timesteps[:1].repeat(rows),
            is_strength_max=True,
        )
        condition = pipeline.mask_processor.preprocess(list(masks), height=height, width=width)
        masked_image = init_image * (condition < 0.5)
        mask, masked_latents = pipeline.prepare_mask_latents(
            condition, masked_image, rows, height, width, text.dtype, device, generators, False
        )
        step_arguments = pipeline.prepare_extra_step_kwargs(generators, 0.0)
        for timestep in timesteps:
            scaled = pipeline.scheduler.scale_model_input(latents, timestep)
            inputs = torch.cat([scaled, mask, masked_latents], dim=1)  # (rows, 2 * channels + 1, height / 8, width / 8)
            noise_pred = pipeline.unet(inputs, timestep, encoder_hidden_states=text, return_dict=False)[0]
            latents = pipeline.scheduler.step(noise_pred, timestep, latents, **step_arguments, return_dict=False)[0]
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]
        pictures: list[Image.Image] = pipeline.image_processor.postprocess(decoded, output_type="pil")
        return pictures
