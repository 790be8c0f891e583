"""diffusers' inpaint pipeline, as a server that knows nothing else would call it.

``StableDiffusionInpaintPipeline.__call__`` refuses the pocket model's U-Net of 33 input channels: it takes 4 or 9,
whatever the VAE has. ``_by_its_parts`` is that call without the check and without what is not asked for here
(callbacks, IP adapters, guidance): the pipeline's own methods in the pipeline's own order, on the whole picture at its
full size. A network whose config says ``paints_on_fill`` is shown the filled picture, its latents are counted from that
picture's, and what decoding loses of the fill is added again, as in ``worker.families.latent_diffusion``: its pictures
would mean nothing else.
"""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from PIL import Image

from bench.served_model import ServedModel
from worker.models.sources import EMBEDDED
from worker.pixels.fill.texture import fill

TAKEN_CHANNELS = (4, 9)
"""Input channels of a U-Net that the pipelines' own ``__call__`` takes."""


class Pipeline:
    """The pipeline of a model's folder, in the layout it is loaded in."""

    def __init__(self, served: ServedModel | None = None) -> None:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.served = served or ServedModel()
        folder, dtype = str(self.served.folder or EMBEDDED), getattr(torch, self.served.dtype)
        self.pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self.pipeline.to(self.served.device)
        self.pipeline.set_progress_bar_config(disable=True)

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
        if self.pipeline.unet.config.in_channels not in TAKEN_CHANNELS:
            return self._by_its_parts(prompts, images, masks, seeds, steps)
        width, height = images[0].size
        painted = self.pipeline(
            prompt=list(prompts),
            image=list(images),
            mask_image=list(masks),
            height=height,
            width=width,
            strength=1.0,
            num_inference_steps=steps,
            guidance_scale=self.served.guidance_scale,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        )
        return list(painted.images)

    def _by_its_parts(
        self,
        prompts: Sequence[str],
        images: Sequence[Image.Image],
        masks: Sequence[Image.Image],
        seeds: Sequence[int],
        steps: int,
    ) -> list[Image.Image]:
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
        on_fill = pipeline.unet.config.get("paints_on_fill")
        masked_image = self._filled(images, masks) if on_fill else init_image * (condition < 0.5)
        mask, masked_latents = pipeline.prepare_mask_latents(
            condition, masked_image, rows, height, width, text.dtype, device, generators, False
        )
        step_arguments = pipeline.prepare_extra_step_kwargs(generators, 0.0)
        for timestep in timesteps:
            scaled = pipeline.scheduler.scale_model_input(latents, timestep)
            inputs = torch.cat([scaled, mask, masked_latents], dim=1)  # (rows, 2 * channels + 1, height / 8, width / 8)
            noise_pred = pipeline.unet(inputs, timestep, encoder_hidden_states=text, return_dict=False)[0]
            latents = pipeline.scheduler.step(noise_pred, timestep, latents, **step_arguments, return_dict=False)[0]
        if on_fill:
            painted = self._decoded(latents * mask + masked_latents)
            decoded = painted + masked_image - self._decoded(masked_latents)
        else:
            decoded = self._decoded(latents)
        pictures: list[Image.Image] = pipeline.image_processor.postprocess(decoded, output_type="pil")
        return pictures

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        return torch.as_tensor(vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0])

    def _filled(self, images: Sequence[Image.Image], masks: Sequence[Image.Image]) -> torch.Tensor:
        """(rows, 3, H, W), -1 to 1: the pictures with their holes filled."""
        holes = [np.asarray(mask.convert("L")) > 127 for mask in masks]
        filled = [Image.fromarray(fill(np.asarray(i), hole)) for i, hole in zip(images, holes, strict=True)]
        return torch.as_tensor(self.pipeline.image_processor.preprocess(filled))
