"""What all families share: how a request becomes a state, and states go on from step to step to pixels.

A family's own file names its diffusers parts and says how its network is asked; the rest is here, in the order in
which diffusers' inpaint pipelines do it, also the order in which they draw random numbers.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline

from jobs.errors import BadModel, NoSurroundings, UnfitScheduler
from jobs.schedulers import skipped_steps
from jobs.schema import InpaintParameters
from worker import masks, sampling
from worker.encodings import Encodings
from worker.families.base import Canvas, Clock, Pixels
from worker.families.denoising_network import DenoisingNetwork
from worker.families.latent_space import LatentSpace
from worker.modes import mode_for
from worker.noise_laws import fitting
from worker.state import AdapterSet, BatchKey, Conditioning, DenoiseState
from worker.stepping import step_each
from worker.tables import Table, tabulate

TABLES = 256
"""Schedules whose tables a model keeps; at the next one it begins anew."""

Prompts = tuple[Conditioning, Conditioning | None]
"""What the network is told of the prompt, and of the negative prompt where guidance is computed."""


class LatentDiffusion(LatentSpace, DenoisingNetwork):
    """A loaded model: ``worker.families.base.Family``, but for what the abstract methods say.

    Latents are (1, C, h, w) everywhere; a family whose network wants them in another form changes it in ``forward``.

    Args:
        name: the model's name in the catalog.
        pipeline: of the class ``pipeline_class``, on its device.
        encoding_budget_bytes: bytes of encoded prompts and pictures that are kept for requests that bring them again.
    """

    pipeline_class: ClassVar[type[DiffusionPipeline]]
    load_options: ClassVar[dict[str, Any]] = {}
    """What ``pipeline_class.from_pretrained`` is told beside the folder."""
    network_part: ClassVar[str]
    """The denoising network's name in the pipeline."""
    flow: ClassVar[bool] = False
    """Whether the network predicts the velocity of a flow, not noise; it says which noise schedulers fit."""
    encodes_image_at_full_strength: ClassVar[bool] = False
    """Whether diffusers' pipeline draws for the image latents of a concat network even where it starts from noise."""

    def __init__(self, name: str, pipeline: Any, encoding_budget_bytes: int = 0) -> None:
        self.name = name
        self.pipeline = pipeline
        self.vae, self.network = pipeline.vae, getattr(pipeline, self.network_part)
        self.device = pipeline._execution_device  # where offloaded weights come to; they themselves lie elsewhere
        self.dtype = self.network.dtype
        self.latent_factor: int = pipeline.vae_scale_factor
        if fault := self.fault():
            raise BadModel(f"Model {name!r}: {fault}.")
        found, channels = self.network.config.in_channels, self.latent_channels
        self.mode = mode_for(found, self.input_channels(), f"Model {name!r} with a VAE of {channels} channels")
        self.paints_on_fill = bool(self.network.config.get("paints_on_fill"))
        self.encodings = Encodings(encoding_budget_bytes)
        self._tables: dict[tuple[str, int, int, tuple[int, int]], Table | None] = {}

    # ---- what a family says of itself

    def input_channels(self) -> dict[str, int]:
        """Mode name -> input channels of a network made for it."""
        return {"recompose": self.latent_channels, "concat": 2 * self.latent_channels + 1}

    def fault(self) -> str | None:
        """Why the network is none of this family, where that can be told; its input channels aside."""
        return None

    @abstractmethod
    def encode_prompts(self, parameters: InpaintParameters, canvas: Canvas) -> Prompts:
        """Conditioning of the prompt, and of the negative prompt if guidance is to be computed from both."""

    def text_readers(self) -> list[tuple[Any, int]]:
        """Tokenizers of the text encoders, and how many tokens each of these reads, special ones included."""
        found = (getattr(self.pipeline, name, None) for name in ("tokenizer", "tokenizer_2"))
        return [(tokenizer, tokenizer.model_max_length) for tokenizer in found if tokenizer]

    def cuts(self, text: str) -> bool:
        """Whether a prompt has more tokens than any of the text encoders reads."""
        return all(len(tokenizer(text).input_ids) > limit for tokenizer, limit in self.text_readers())

    def schedule(self, steps: int, grid: tuple[int, int]) -> dict[str, Any]:
        """Arguments of the noise scheduler's ``set_timesteps``; ``grid`` is the latents' (h, w)."""
        return {"num_inference_steps": steps}

    def extra_channels(self, repaint: torch.Tensor, masked_image_latents: torch.Tensor, canvas: Canvas) -> torch.Tensor:
        """What a concat network sees after the latents: (1, 1, h, w) and (1, C, h, w) -> (1, C' - C, h, w)."""
        return torch.cat([repaint, masked_image_latents], dim=1)

    # ---- the same for all

    @cached_property
    def schedulers(self) -> tuple[str, ...]:
        """Names of the noise schedulers that fit the model; it takes a fraction of a second to find them."""
        return fitting("flow" if self.flow else "diffusion", self.pipeline.scheduler, self.schedule)

    @torch.inference_mode()
    def prepare(
        self, canvas: Canvas, parameters: InpaintParameters, clock: Clock, adapters: AdapterSet = ()
    ) -> list[DenoiseState]:
        self._check_surroundings(canvas, parameters)
        if parameters.scheduler not in self.schedulers:
            raise UnfitScheduler(
                f"scheduler: {parameters.scheduler!r} cannot follow the noise levels of model {self.name!r}. "
                f"Those that can: {', '.join(self.schedulers)}."
            )
        clock("text_encode")
        asked = (parameters.prompt, parameters.negative_prompt, parameters.guidance_scale)
        prompts = self.encodings.recall(
            ("text", *asked, canvas.mask.shape, adapters), lambda: self.encode_prompts(parameters, canvas)
        )
        clock("vae_encode")
        seeds = range(parameters.seed, parameters.seed + parameters.n)
        with self.encodings.sharing():
            return [self._state(canvas, parameters, seed, prompts, adapters) for seed in seeds]

    def _check_surroundings(self, canvas: Canvas, parameters: InpaintParameters) -> None:
        """Raise NoSurroundings where nothing of the picture is known and something is to be filled from it."""
        filled = self.paints_on_fill or (canvas.start_filled and parameters.strength < 1)
        if filled and canvas.mask.min() == 255:
            raise NoSurroundings(
                "mask: grown and feathered as asked, it leaves nothing of the picture known that is not transparent, "
                "and the hole is to be filled from its surroundings. Leave an opaque part of the picture out of the "
                "mask, send a smaller mask_grow or mask_feather, or ask for a model that paints from the prompt alone "
                "(needs_surroundings is false in /v1/models) without masked_content=fill."
            )

    def prompts_cut(self, parameters: InpaintParameters, guided: bool) -> bool:
        return self.cuts(parameters.prompt) or (guided and self.cuts(parameters.negative_prompt))

    def _state(
        self, canvas: Canvas, parameters: InpaintParameters, seed: int, prompts: Prompts, adapters: AdapterSet
    ) -> DenoiseState:
        strength, generator = parameters.strength, torch.Generator("cpu").manual_seed(seed)
        grid = masks.latent_mask(canvas.mask, self.latent_factor)  # (1, 1, h, w)
        soft, (height, width) = masks.is_soft(canvas.mask), grid.shape[2:]
        scheduler = sampling.new_scheduler(parameters.scheduler, self.pipeline.scheduler, seed)
        skipped = skipped_steps(parameters.num_inference_steps, strength, self.flow)
        schedule = self.schedule(parameters.num_inference_steps, (height, width))
        timesteps = sampling.begin(scheduler, schedule, skipped, self.device)
        table = self._table(parameters.scheduler, parameters.num_inference_steps, skipped, (height, width))

        ground = self.ground(canvas)
        image_latents, start = self._image_latents(canvas, strength, soft, ground, generator)
        noise, repaint = self._draw(canvas, generator), grid.to(self.device, self.dtype)
        latents = pure = sampling.pure_noise(scheduler, noise)
        if start is not None and strength < 1:
            latents = sampling.noised(scheduler, start, noise, timesteps[:1])
        if parameters.masked_content == "noise":
            latents = repaint * pure + (1 - repaint) * latents
        text, negative_text = prompts
        return DenoiseState(
            key=BatchKey(self.name, tuple(noise.shape), self.dtype, negative_text is not None, adapters),
            latents=latents,
            noise=noise,
            mask=repaint,
            soft=soft,
            image_latents=image_latents,
            extra_channels=self.shown_beside(canvas, repaint, ground, generator),
            ground=ground,
            residue=None if ground is None else self._lost("filled", canvas),
            text=text,
            negative_text=negative_text,
            guidance_scale=parameters.guidance_scale,
            scheduler=scheduler,
            timesteps=timesteps,
            steps=parameters.num_inference_steps - skipped,
            step_arguments=sampling.step_arguments(scheduler, generator),
            cache_interval=parameters.cache_interval,
            table=table,
        )

    def _table(self, name: str, steps: int, skipped: int, grid: tuple[int, int]) -> Table | None:
        """The scheduler's table for such a schedule, made once."""
        key = (name, steps, skipped, grid)
        if key not in self._tables:
            if len(self._tables) == TABLES:
                self._tables.clear()
            scheduler = sampling.new_scheduler(name, self.pipeline.scheduler, seed=0)
            timesteps = sampling.begin(scheduler, self.schedule(steps, grid), skipped, torch.device("cpu"))
            self._tables[key] = tabulate(name, scheduler, timesteps)
        return self._tables[key]

    def _image_latents(
        self, canvas: Canvas, strength: float, soft: bool, ground: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The image's latents and those that denoising starts from, where they are needed, counted from the ground."""
        found = self._encoded_latents(canvas, strength, soft, ground, generator)
        if ground is None:
            return found
        image_latents, start = (None if latents is None else latents - ground for latents in found)
        return image_latents, start

    def _encoded_latents(
        self, canvas: Canvas, strength: float, soft: bool, ground: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The same as they are encoded."""
        always = self.mode.needs_image_latents(False)
        held = always or self.mode.needs_image_latents(soft and ground is None)
        # what only a soft mask needs is drawn apart: its noise is that of a hard one
        apart = generator if always else torch.Generator("cpu").manual_seed(generator.initial_seed())
        if not (always or strength < 1):
            if self.encodes_image_at_full_strength:
                self._draw(canvas, generator)
            return self._encoded("image", canvas, apart) if held else None, None
        if not canvas.start_filled:
            image_latents = self._encoded("image", canvas, generator)
            return image_latents, image_latents
        start = self._encoded("filled", canvas, generator) if ground is None else ground
        return self._encoded("image", canvas, apart) if held else None, start

    def ground(self, canvas: Canvas) -> torch.Tensor | None:
        """Latents of the filled picture, (1, C, h, w), for a network whose config says ``paints_on_fill``.

        Such a network is shown the filled picture, not one with a grey hole, and its latents are the picture's less
        these: one that says nothing leaves the fill as it is, to the pixel (``DenoiseState.residue``).
        """
        return self._settled("filled", canvas) if self.paints_on_fill else None

    def shown_beside(
        self, canvas: Canvas, repaint: torch.Tensor, ground: torch.Tensor | None, generator: torch.Generator
    ) -> torch.Tensor | None:
        """Diffusers encodes the masked image in every mode: without its draw, later ones would be other ones."""
        if self.mode.name != "concat":
            self._draw(canvas, generator)
            return None
        if ground is not None:
            return self.extra_channels(repaint, ground, canvas)
        return self.extra_channels(repaint, self._encoded("masked", canvas, generator), canvas)

    @torch.inference_mode()
    def advance(self, states: Sequence[DenoiseState], noise_pred: torch.Tensor) -> None:
        for state, stepped in zip(states, step_each(states, noise_pred.split(1)), strict=True):
            if isinstance(stepped, Exception):
                state.error = stepped
                continue
            step = state.index // state.scheduler.order
            state.go_on(stepped)
            state.latents = self.mode.after_step(state, step)

    @torch.inference_mode()
    def finish(self, states: Sequence[DenoiseState]) -> Pixels:
        image = self.decode_finite(torch.cat([state.painted for state in states])).float()  # (rows, 3, H, W)
        residues = [state.residue for state in states if state.residue is not None]
        if residues:
            image = image + torch.cat(residues)
        pixels = (image * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).cpu().numpy())
