"""Stable Diffusion 1.5 and 2, and the pocket model: a U-Net with cross-attention, eps or v prediction.

Follows ``StableDiffusionInpaintPipeline`` of diffusers step by step, in the order it draws random numbers too.
"""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import retrieve_latents
from diffusers.utils.torch_utils import randn_tensor

from jobs.errors import BadModel
from jobs.schema import InpaintParameters
from worker import masks
from worker.families.base import Canvas, Clock, Pixels
from worker.modes import Mode, mode_for
from worker.sampling import begin, new_scheduler, step_arguments
from worker.state import BatchKey, DenoiseState


class StableDiffusion:
    """The ``sd`` family. The channel counts are read once, here; they say which mode the network was made for."""

    def __init__(self, name: str, pipeline: StableDiffusionInpaintPipeline) -> None:
        self.name = name
        self.pipeline = pipeline
        self.vae, self.unet = pipeline.vae, pipeline.unet
        self.device, self.dtype = self.unet.device, self.unet.dtype
        self.latent_channels: int = self.vae.config.latent_channels
        self.latent_factor: int = pipeline.vae_scale_factor
        self.mode: Mode = self._mode(self.unet.config.in_channels)

    def _mode(self, in_channels: int) -> Mode:
        mode, channels = mode_for(in_channels, self.latent_channels), self.latent_channels
        if mode is None:
            raise BadModel(
                f"The network of {self.name!r} takes {in_channels} channels and its VAE has {channels}; an inpainting "
                f"network takes {2 * channels + 1} (latents, mask, masked image), an ordinary one {channels}."
            )
        return mode

    @torch.inference_mode()
    def prepare(self, canvas: Canvas, parameters: InpaintParameters, clock: Clock) -> list[DenoiseState]:
        clock("text_encode")
        # u + scale * (c - u) is u where both prompts are the same: half the work for the same image
        guided = parameters.guidance_scale > 1 and parameters.prompt != parameters.negative_prompt
        text, negative_text = self.pipeline.encode_prompt(
            parameters.prompt, self.device, 1, guided, parameters.negative_prompt
        )
        clock("vae_encode")
        seeds = range(parameters.seed, parameters.seed + parameters.n)
        return [self._state(canvas, parameters, seed, text, negative_text) for seed in seeds]

    def _state(
        self,
        canvas: Canvas,
        parameters: InpaintParameters,
        seed: int,
        text: torch.Tensor,
        negative_text: torch.Tensor | None,
    ) -> DenoiseState:
        scheduler = new_scheduler(parameters.scheduler, self.pipeline.scheduler)
        timesteps = begin(scheduler, parameters.num_inference_steps, parameters.strength, self.device)
        generator = torch.Generator("cpu").manual_seed(seed)
        grid = masks.latent_mask(canvas.mask, self.latent_factor)  # (1, 1, h, w)
        soft = masks.is_soft(canvas.mask)

        image_latents = start = None
        if self.mode.needs_image_latents(soft) or parameters.strength < 1:
            image_latents = start = self._encode(canvas.image, generator)
            if canvas.start is not canvas.image:
                start = self._encode(canvas.start, generator)
        shape = (1, self.latent_channels, *grid.shape[2:])
        noise = randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype)
        latents = noise * scheduler.init_noise_sigma
        if parameters.strength < 1:
            latents = scheduler.add_noise(start, noise, timesteps[:1])
        repaint = (grid > 0).to(self.device, self.dtype)
        if parameters.masked_content == "noise":
            latents = repaint * noise * scheduler.init_noise_sigma + (1 - repaint) * latents
        masked_latents = self._encode(canvas.image, generator, canvas.mask) if self.mode.name == "concat" else None
        return DenoiseState(
            key=BatchKey(self.name, tuple(shape), self.dtype, negative_text is not None),
            latents=latents,
            noise=noise,
            mask=repaint,
            release=masks.release_steps(grid, len(timesteps)).to(self.device),
            soft=soft,
            image_latents=image_latents,
            masked_image_latents=masked_latents,
            text=text,
            negative_text=negative_text,
            guidance_scale=parameters.guidance_scale,
            scheduler=scheduler,
            timesteps=timesteps,
            step_arguments=step_arguments(scheduler, generator),
        )

    def _encode(self, pixels: Pixels, generator: torch.Generator, mask: Pixels | None = None) -> torch.Tensor:
        """(h, w, 3) uint8 to scaled latents (1, C, h / f, w / f). What ``mask`` asks to repaint is blanked first."""
        image = torch.tensor(pixels, device=self.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        if mask is not None:
            image = image * torch.tensor(mask == 0, device=self.device)
        latents = retrieve_latents(self.vae.encode(image.to(self.dtype)), generator=generator)
        return torch.as_tensor(self.vae.config.scaling_factor * latents)

    @torch.inference_mode()
    def predict(self, states: Sequence[DenoiseState]) -> torch.Tensor:
        timesteps = torch.stack([state.timesteps[state.index] for state in states])
        inputs = torch.cat([self._network_input(state) for state in states])
        text = torch.cat([state.text for state in states])
        if not states[0].key.guided:
            return self._forward(inputs, timesteps, text)
        negative = torch.cat([state.negative_text for state in states if state.negative_text is not None])
        output = self._forward(inputs.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([negative, text]))
        unconditional, conditional = output.chunk(2)
        scale = torch.tensor([state.guidance_scale for state in states], device=self.device, dtype=self.dtype)
        return unconditional + scale.view(-1, 1, 1, 1) * (conditional - unconditional)

    def _network_input(self, state: DenoiseState) -> torch.Tensor:
        scaled = state.scheduler.scale_model_input(state.latents, state.timesteps[state.index])
        return self.mode.network_input(scaled, state)

    def _forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.unet(inputs, timesteps, encoder_hidden_states=text, return_dict=False)[0])

    @torch.inference_mode()
    def advance(self, state: DenoiseState, noise_pred: torch.Tensor) -> None:
        done, timestep = state.index, state.timesteps[state.index]
        stepped = state.scheduler.step(noise_pred, timestep, state.latents, **state.step_arguments, return_dict=False)
        state.latents = stepped[0]
        state.index += 1
        state.latents = self.mode.after_step(state, done)

    @torch.inference_mode()
    def finish(self, states: Sequence[DenoiseState]) -> Pixels:
        latents = torch.cat([state.latents for state in states]) / self.vae.config.scaling_factor
        image = self.vae.decode(latents, return_dict=False)[0]  # (rows, 3, H, W), -1 to 1
        pixels = (image.float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
