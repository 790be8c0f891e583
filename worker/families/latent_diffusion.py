"""What all families share: a request becomes a state, the state is stepped, and the last latents become pixels.

A family's own file names its diffusers parts and calls its network. The rest is here, in the order of diffusers'
inpaint pipelines, which is also the order in which they draw random numbers.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline

from jobs.errors import BadModel, NoSurroundings, UnfitScheduler
from jobs.families import FAMILIES, Family
from jobs.schedulers import skipped_steps
from jobs.schema import InpaintParameters, PromptSyntax, PromptTokens, TextRequest
from worker.denoise import sampling
from worker.denoise.modes import mode_for
from worker.denoise.noise_laws import fitting
from worker.denoise.state import AdapterSet, BatchKey, Conditioning, DenoiseState
from worker.denoise.stepping import step_each
from worker.denoise.tables import Table, tabulate
from worker.families.base import Clock
from worker.families.compiled_calls import CompiledCalls
from worker.families.denoising_network import DenoisingNetwork
from worker.families.encodings import Encodings
from worker.families.latent_previews import LatentPreviews
from worker.pixels import masks
from worker.pixels.canvas import Canvas, Pixels

TABLES = 256
"""Schedules whose tables a model keeps; at the next one it begins anew."""

Prompts = tuple[Conditioning, Conditioning | None]
"""The conditioning of the prompt, and of the negative prompt where guidance is computed."""


class LatentDiffusion(LatentPreviews, DenoisingNetwork):
    """A loaded model: ``worker.families.base.Family``, but for what the abstract methods say.

    Latents are (1, C, h, w) everywhere; a family whose network wants them in another form changes it in ``forward``.

    Args:
        name: the model's name in the catalog.
        pipeline: of the class ``pipeline_class``, on its device.
        encoding_budget_bytes: bytes of encoded prompts and pictures that are kept for requests that bring them again.
    """

    family: ClassVar[Family]
    pipeline_class: ClassVar[type[DiffusionPipeline]]
    load_options: ClassVar[dict[str, Any]] = {}
    """Arguments of ``pipeline_class.from_pretrained`` beside the folder."""
    network_part: ClassVar[str]
    """The denoising network's name in the pipeline."""
    stacks_any_lengths: ClassVar[bool] = False
    """Whether ``stack`` takes texts of different lengths."""
    prompt_chunks: int = 1
    """How often as many tokens as a text encoder reads at once are read of a prompt."""
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
        whose = f"Model {name!r} with a VAE of {channels} channels"
        on_fill = bool(self.network.config.get("paints_on_fill"))
        self.mode = mode_for(found, self.input_channels(), whose, on_fill)
        self.encodings = Encodings(encoding_budget_bytes)
        self.compiled = CompiledCalls()
        self._tables: dict[tuple[str, int, int, tuple[int, int]], Table] = {}

    # ---- what a family's own file overrides

    def input_channels(self) -> dict[str, int]:
        """Mode name -> input channels of a network made for it."""
        return {"recompose": self.latent_channels, "concat": 2 * self.latent_channels + 1}

    def fault(self) -> str | None:
        """Why the network is none of this family, where its config shows it; its input channels aside."""
        return None

    @abstractmethod
    def encode_prompts(self, asked: TextRequest, size: tuple[int, int]) -> Prompts:
        """Conditioning of the prompt, and of the negative prompt if guidance is to be computed from both.

        ``size`` is the canvas's (height, width). What is asked for and the size are the key of the cached encoding.
        """

    def text_readers(self) -> list[tuple[Any, int]]:
        """Tokenizers of the text encoders, and how many tokens each of these reads, special ones included."""
        found = (getattr(self.pipeline, name, None) for name in ("tokenizer", "tokenizer_2"))
        return [(tokenizer, tokenizer.model_max_length) for tokenizer in found if tokenizer]

    def prompt_tokens(self, prompt: str, syntax: PromptSyntax) -> list[PromptTokens]:
        return [tokens_read(tokenizer, prompt, limit) for tokenizer, limit in self.text_readers()]

    def schedule(self, steps: int, grid: tuple[int, int]) -> dict[str, Any]:
        """Arguments of the noise scheduler's ``set_timesteps``; ``grid`` is the latents' (h, w)."""
        return {"num_inference_steps": steps}

    def extra_channels(self, repaint: torch.Tensor, masked_image_latents: torch.Tensor, canvas: Canvas) -> torch.Tensor:
        """What a concat network sees after the latents: (1, 1, h, w) and (1, C, h, w) -> (1, C' - C, h, w)."""
        return torch.cat([repaint, masked_image_latents], dim=1)

    # ---- the same for all

    @property
    def flow(self) -> bool:
        """Whether the network predicts the velocity of a flow, not noise; it decides which noise schedulers fit."""
        return FAMILIES[self.family].law == "flow"

    @cached_property
    def schedulers(self) -> tuple[str, ...]:
        """Names of the noise schedulers that fit the model; it takes a fraction of a second to find them."""
        return fitting(FAMILIES[self.family].law, self.pipeline.scheduler, self.schedule)

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
        asked, size = parameters.text, (canvas.mask.shape[0], canvas.mask.shape[1])
        prompts = self.encodings.recall(("text", asked, size, adapters), lambda: self.encode_prompts(asked, size))
        clock("vae_encode")
        with self.encodings.sharing():
            return [self._state(canvas, parameters, seed, prompts, adapters) for seed in parameters.seeds]

    def _check_surroundings(self, canvas: Canvas, parameters: InpaintParameters) -> None:
        """Raise NoSurroundings where nothing of the picture is known and something is to be filled from it."""
        filled = self.mode.fills_holes or (canvas.start_filled and parameters.strength < 1)
        if filled and not canvas.painted and canvas.mask.min() == 255:
            raise NoSurroundings(
                "mask: grown and feathered as asked, it leaves nothing of the picture known that is not transparent, "
                "and the hole is to be filled from its surroundings. Leave an opaque part of the picture out of the "
                "mask, send a smaller mask_grow or mask_feather, or ask for a model that paints from the prompt alone "
                "(needs_surroundings is false in /v1/models) without masked_content=fill."
            )

    def _state(
        self, canvas: Canvas, parameters: InpaintParameters, seed: int, prompts: Prompts, adapters: AdapterSet
    ) -> DenoiseState:
        strength, generator = parameters.strength, torch.Generator("cpu").manual_seed(seed)
        repaint = masks.latent_mask(self.uploaded(canvas.mask), self.latent_factor).to(self.dtype)  # (1, 1, h, w)
        soft, (height, width) = masks.is_soft(canvas.mask), repaint.shape[2:]
        scheduler = sampling.new_scheduler(parameters.scheduler, self.pipeline.scheduler, seed)
        skipped = skipped_steps(parameters.num_inference_steps, strength, self.flow)
        schedule = self.schedule(parameters.num_inference_steps, (height, width))
        timesteps = sampling.begin(scheduler, schedule, skipped)
        table = self._table(parameters.scheduler, parameters.num_inference_steps, skipped, (height, width))

        image_latents, start = self._image_latents(canvas, strength, soft, generator)
        noise = self.draw(canvas, generator)
        latents = pure = sampling.pure_noise(scheduler, noise)
        if start is not None and strength < 1:
            clean_weight, noise_weight = table.levels[0].tolist()
            latents = clean_weight * start + noise_weight * noise
        if parameters.masked_content == "noise":
            latents = repaint * pure + (1 - repaint) * latents
        text, negative_text = prompts
        return DenoiseState(
            key=BatchKey(
                self.name,
                tuple(noise.shape),
                self.dtype,
                negative_text is not None,
                0 if self.stacks_any_lengths else text["encoder_hidden_states"].shape[1],
                adapters,
            ),
            latents=latents,
            noise=noise,
            mask=repaint,
            soft=soft,
            image_latents=image_latents,
            extra_channels=self.mode.concat_channels(self, canvas, repaint, generator),
            fill=self.mode.fill(self, canvas),
            text=text,
            negative_text=negative_text,
            guidance_scale=parameters.guidance_scale,
            scheduler=scheduler,
            table=table,
            draw=sampling.noise_source(scheduler, generator, tuple(noise.shape), self.dtype),
            timesteps=timesteps,
            steps=parameters.num_inference_steps - skipped,
            step_arguments=sampling.step_arguments(scheduler, generator),
            cache_interval=parameters.cache_interval,
        )

    def _table(self, name: str, steps: int, skipped: int, grid: tuple[int, int]) -> Table:
        """The scheduler's table for such a schedule, made once."""
        key = (name, steps, skipped, grid)
        if key not in self._tables:
            if len(self._tables) == TABLES:
                self._tables.clear()
            scheduler = sampling.new_scheduler(name, self.pipeline.scheduler, seed=0)
            timesteps = sampling.begin(scheduler, self.schedule(steps, grid), skipped)
            self._tables[key] = tabulate(scheduler, timesteps)
        return self._tables[key]

    def _image_latents(
        self, canvas: Canvas, strength: float, soft: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The image's latents and those that denoising starts from, where they are needed."""
        found = self._encoded_latents(canvas, strength, soft, generator)
        image_latents, start = (None if it is None else self.mode.offsets(self, canvas, it) for it in found)
        return image_latents, start

    def _encoded_latents(
        self, canvas: Canvas, strength: float, soft: bool, generator: torch.Generator
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """The same, as latents of pictures."""
        always, held = self.mode.needs_image_latents(False), self.mode.needs_image_latents(soft)
        # a generator apart for what only a soft mask needs, so that its noise is that of a hard one
        apart = generator if always else torch.Generator("cpu").manual_seed(generator.initial_seed())
        if not (always or strength < 1):
            if self.encodes_image_at_full_strength:
                self.draw(canvas, generator)
            return self.encoded("image", canvas, apart) if held else None, None
        if not canvas.start_filled:
            image_latents = self.encoded("image", canvas, generator)
            return image_latents, image_latents
        start = self.mode.filled_latents(self, canvas, generator)
        return self.encoded("image", canvas, apart) if held else None, start

    @torch.inference_mode()
    def advance(self, states: Sequence[DenoiseState], noise_pred: torch.Tensor) -> None:
        self.estimate(states, noise_pred)
        going: list[DenoiseState] = []
        latents: list[torch.Tensor] = []
        for state, stepped in zip(states, step_each(states, noise_pred), strict=True):
            if isinstance(stepped, Exception):
                state.fail(stepped)
                continue
            state.go_on()
            going.append(state)
            latents.append(stepped)
        if going:
            after = self.mode.after_step(going, torch.cat(latents)).to(self.dtype)
            for state, its in zip(going, after.split(1), strict=True):
                state.latents = its

    @torch.inference_mode()
    def finish(self, states: Sequence[DenoiseState]) -> Pixels:
        decoded = self.decode_finite(torch.cat([self.mode.final_latents(state) for state in states])).float()
        image = torch.stack([self.mode.finished(*row) for row in zip(states, decoded, strict=True)])  # (rows, 3, H, W)
        pixels = (image * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.asarray(pixels.permute(0, 2, 3, 1).contiguous().cpu())


def tokens_read(tokenizer: Any, prompt: str, limit: int, around: Callable[[str], str] = str) -> PromptTokens:
    """How much is read of a prompt whose text, with what ``around`` adds to it, is cut at ``limit`` tokens."""
    added = len(tokenizer(around("")).input_ids)
    used = len(tokenizer(around(prompt)).input_ids) - added
    return PromptTokens(used=used, limit=limit - added, cut=max(0, used - (limit - added)))
