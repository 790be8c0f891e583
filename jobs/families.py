"""What is known of each network family without loading one: the one place for it, for API and worker."""

from typing import Literal

from pydantic import Field

from jobs.schema import (
    CacheInterval,
    Guidance,
    InpaintParameters,
    MaskedContent,
    MaskGrow,
    Prompt,
    Record,
    Scheduler,
    Steps,
    Strength,
)

Family = Literal["sd", "sdxl", "sd3", "flux", "qwen-image", "feedforward"]

Law = Literal["diffusion", "flow", "none"]
"""How noise comes upon a picture: added to it, mixed with it along a straight line (flow matching), or not at all."""


NOTHING_NEW = "object, person, animal, text, logo, watermark, shadow"


class Sampling(Record):
    """What a request, a preset, a model and its family can each set; of those that do, the first one named counts."""

    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    strength: Strength | None = None
    scheduler: Scheduler | None = None
    masked_content: MaskedContent | None = None
    cache_interval: CacheInterval | None = None


class Recipe(Sampling):
    """How a model does a task: what a request for it gets unless it says otherwise; the rest is the model's default."""

    mask_grow: MaskGrow | None = None
    negative_prompt: Prompt | None = None


class Facts(Record):
    """One family."""

    law: Law = Field(description="that its networks are trained by")
    network: Literal["unet", "transformer", "convolutional"]
    class_prefix: str | None = Field(None, description="how diffusers' names of its pipelines begin; None: it has none")
    single_file_kinds: tuple[str, ...] = Field((), description="diffusers' names of its kinds of single files")
    adapter_layers: str | None = Field(None, description="pattern of names of layers that no other family has")
    text_widths: tuple[int, ...] = Field((), description="widths of the text that published U-Nets attend to")
    has_clip: bool = Field(True, description="whether one of its text encoders is a CLIP")
    guides_by_rows: bool = Field(True, description="guidance takes two rows an image; else the scale is an input")
    weights_prompts: bool = Field(False, description="whether words can be weighted, and long prompts run by chunks")
    defaults: Sampling
    remove: Recipe = Field(
        Recipe(masked_content="fill", strength=0.65, mask_grow=8, negative_prompt=NOTHING_NEW),
        description="a fill from the surroundings, changed by the network only so far that no new thing can appear",
    )
    extend: Recipe = Field(
        Recipe(masked_content="fill"),
        description="a border that goes on as the photo's edge, with its detail",
    )
    hires_strength: Strength = Field(0.5, description="of tiles that are run over an enlarged fill, at most")
    hires_tiles: int = Field(4, description="tiles that a request gets without asking for them, at most")
    size_px: int
    max_size_px: int
    max_num_inference_steps: Steps = 200
    max_n: int = Field(8, description="images of one job at most")
    needs_surroundings: bool = Field(False, description="paints from what surrounds a hole")

    @property
    def denoises(self) -> bool:
        """Whether its networks turn noise into pictures; others paint in one call (``jobs/feedforward.py``)."""
        return self.law != "none"

    @property
    def caches_features(self) -> bool:
        """Whether deep features can be kept from one call to the next (``worker/families/deepcache.py``)."""
        return self.network == "unet"


def _sampling(steps: int, guidance: float, scheduler: Scheduler, strength: float = 1.0) -> Sampling:
    return Sampling(
        num_inference_steps=steps,
        guidance_scale=guidance,
        scheduler=scheduler,
        strength=strength,
        masked_content="original",
        cache_interval=1,
    )


FAMILIES: dict[Family, Facts] = {
    "sd": Facts(
        law="diffusion",
        network="unet",
        class_prefix="StableDiffusion",
        single_file_kinds=("v1", "v2", "inpainting", "inpainting_v2"),
        text_widths=(768, 1024),
        weights_prompts=True,
        defaults=_sampling(30, 7.5, "dpmpp_2m"),
        size_px=512,
        max_size_px=1024,
    ),
    "sdxl": Facts(
        law="diffusion",
        network="unet",
        class_prefix="StableDiffusionXL",
        single_file_kinds=("xl_base", "xl_inpaint"),
        text_widths=(2048,),
        weights_prompts=True,
        defaults=_sampling(30, 7.5, "dpmpp_2m", strength=0.9999),  # as diffusers: from noise alone it is less sharp
        size_px=1024,
        max_size_px=1024,
    ),
    "sd3": Facts(
        law="flow",
        network="transformer",
        class_prefix="StableDiffusion3",
        single_file_kinds=("sd3", "sd35_medium", "sd35_large"),
        adapter_layers=r"joint_blocks_|transformer_blocks_\d+_attn2_",
        defaults=_sampling(28, 7.0, "flow_euler"),
        size_px=1024,
        max_size_px=1024,
    ),
    "flux": Facts(
        law="flow",
        network="transformer",
        class_prefix="Flux",
        single_file_kinds=("flux-dev", "flux-schnell", "flux-fill"),
        adapter_layers=r"(single_transformer_blocks|double_blocks|single_blocks)_",
        guides_by_rows=False,
        defaults=_sampling(28, 3.5, "flow_euler"),
        size_px=1024,
        max_size_px=1024,
    ),
    "qwen-image": Facts(
        law="flow",
        network="transformer",
        class_prefix="QwenImage",
        adapter_layers=r"transformer_blocks_\d+_(img|txt)_m",
        has_clip=False,
        defaults=_sampling(30, 4.0, "flow_euler"),
        size_px=1024,
        max_size_px=1024,
    ),
    "feedforward": Facts(
        law="none",
        network="convolutional",
        has_clip=False,
        guides_by_rows=False,
        defaults=_sampling(1, 1.0, "none"),
        remove=Recipe(mask_grow=8),
        extend=Recipe(),
        hires_tiles=0,
        size_px=512,
        max_size_px=1024,
        max_num_inference_steps=1,
        max_n=1,
        needs_surroundings=True,
    ),
}


def guided(parameters: InpaintParameters, family: Family) -> bool:
    """Whether guidance is computed from two rows an image.

    What is in a model's files is not known here: a network that was distilled to take the scale as an input is counted
    as one of two rows.
    """
    return FAMILIES[family].guides_by_rows and parameters.text.guides
