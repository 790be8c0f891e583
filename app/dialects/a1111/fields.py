"""The body of ``POST /sdapi/v1/img2img`` -> a request. Names and defaults are those of the web UI."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.dialects.a1111 import samplers
from app.dialects.a1111.neutral import check_honoured
from app.uploads import Size
from jobs.catalog import Catalog, ModelEntry
from jobs.errors import InvalidField, UnknownModel
from jobs.families import FAMILIES
from jobs.feedforward import unused_fields
from jobs.field_sentences import sentence_of
from jobs.prompt_syntax import is_weighted, parts_of
from jobs.schema import MAX_PROMPT, InpaintRequest, MaskedContent, Prompt, PromptSyntax

LORA_TAG = re.compile(r"<lora:([^:<>]{1,200})(?::([^:<>]*))?(?::([^<>]*))?>")
HASH = re.compile(r"(?<!\s)\s*\[[0-9a-f]+\]$")
"""Behind a model's title. Without the look behind, each blank would be looked at once for each one before it."""
LATENT_NOTHING = 3
MASKED_CONTENT: dict[int, MaskedContent] = {0: "fill", 1: "original", 2: "noise", 3: "noise"}
BLUR_REACH = 2.5
"""How far the web UI's blur reaches, in its sigmas."""


def _number(value: Any) -> Any:
    """Some clients send numbers as text, and null for a default."""
    return value.strip() if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Flag = Annotated[bool, BeforeValidator(_number)]


class Img2Img(BaseModel):
    """What is honoured. ``null`` is the default, as in the web UI."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    prompt: str = ""
    negative_prompt: Prompt = ""
    seed: Annotated[Whole, Field(ge=-1)] = -1
    batch_size: Annotated[Whole, Field(ge=1)] = 1
    n_iter: Annotated[Whole, Field(ge=1)] = 1
    steps: Annotated[Whole, Field(ge=1)] = 50
    cfg_scale: Number = 7.0
    distilled_cfg_scale: Number | None = None
    width: Annotated[Whole, Field(ge=1, le=65_535)] = 512
    height: Annotated[Whole, Field(ge=1, le=65_535)] = 512
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    denoising_strength: Annotated[Number, Field(gt=0, le=1)] = 0.75
    mask_blur: Annotated[Whole, Field(ge=0, le=100)] | None = None
    mask_blur_x: Annotated[Whole, Field(ge=0, le=100)] = 4
    mask_blur_y: Annotated[Whole, Field(ge=0, le=100)] = 4
    mask_round: Flag = True
    inpainting_fill: Annotated[Whole, Field(ge=0, le=3)] = 0
    inpaint_full_res: Flag = True
    inpaint_full_res_padding: Annotated[Whole, Field(ge=0, le=1024)] = 0
    inpainting_mask_invert: Annotated[Whole, Field(ge=0, le=1)] = 0
    resize_mode: Annotated[Whole, Field(ge=0, le=3)] = 0
    override_settings: dict[str, Any] = {}
    send_images: Flag = True

    @property
    def blur(self) -> int:
        """Its sigma in pixels. Raises InvalidField where it is not the same in both directions."""
        if self.mask_blur is not None:
            return self.mask_blur
        if self.mask_blur_x != self.mask_blur_y:
            raise InvalidField("mask_blur_x, mask_blur_y: this service blurs alike in both directions. Send mask_blur.")
        return self.mask_blur_x


MAX_STRETCHED_PX = 2048
"""Of a side that a result is stretched to: as far as the web UI goes."""


@dataclass(frozen=True)
class Translated:
    """``notes``: what was ignored, or understood in another way, by its name; for ``extra_generation_params``."""

    fields: Img2Img
    request: InpaintRequest
    model: str
    sampler: str
    notes: Mapping[str, str] = field(default_factory=dict)

    def fitted(self, image_size: Size) -> Size | None:
        """The size that results are brought to; None for the photo's own. Raises InvalidField."""
        wanted = self.fields.width, self.fields.height
        if self.fields.inpaint_full_res or wanted == image_size:
            return None
        if max(wanted) > MAX_STRETCHED_PX:
            raise InvalidField(
                f"width, height: at most {MAX_STRETCHED_PX} pixels each where they are not the photo's. Send those, or "
                "inpaint_full_res=true."
            )
        if self.fields.resize_mode:
            raise InvalidField(
                "resize_mode: results are stretched to width and height (0) or keep the photo's size. Send width and "
                "height of the photo, or inpaint_full_res=true."
            )
        return wanted


@dataclass(frozen=True)
class Context:
    """What a body is understood by.

    ``chosen_model``: by the caller's options. ``offered``: the schedulers of each model, as far as is known.
    """

    catalog: Catalog
    chosen_model: str | None
    offered: Mapping[str, Collection[str]]


def translate(body: Mapping[str, Any], context: Context, has_mask: bool) -> Translated:
    """Raises InvalidField, UnknownModel."""
    notes = check_honoured(body, Img2Img.model_fields)
    fields, catalog = _fields(body), context.catalog
    model = model_of(catalog, fields.override_settings.get("sd_model_checkpoint") or context.chosen_model)
    prompt, loras = _split(fields.prompt)
    if len(prompt) > MAX_PROMPT:  # before it is read for weights
        raise InvalidField(f"prompt: This field's length must be at most {MAX_PROMPT} characters.")
    entry = catalog.model(model)
    syntax, weights_note = _syntax_for(entry, prompt, fields.negative_prompt)
    if weights_note:
        notes["Prompt weights"] = weights_note
    scheduler, sampler, note = samplers.scheduler_for(fields, entry, context.offered[model])
    if note:
        notes["Sampler note"] = note
    if fields.inpainting_fill == LATENT_NOTHING:
        notes["Masked content note"] = "latent nothing is run as latent noise"
    asked: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "negative_prompt": fields.negative_prompt,
        "prompt_syntax": syntax,
        "seed": None if fields.seed < 0 else fields.seed,
        "n": fields.batch_size * fields.n_iter,
        "num_inference_steps": fields.steps,
        "guidance_scale": _guidance(fields, entry),
        "strength": fields.denoising_strength,
        "scheduler": scheduler,
        "masked_content": MASKED_CONTENT[fields.inpainting_fill],
        "mask_feather": int(BLUR_REACH * fields.blur + 0.5) if has_mask else 0,
        "crop": "auto" if fields.inpaint_full_res else "off",
        "crop_padding": fields.inpaint_full_res_padding,
        "loras": loras,
    }
    if unused := unused_fields(entry):  # clients of the web UI always send them; adapters they choose
        asked = {name: value for name, value in asked.items() if name not in unused or name == "loras"}
        notes["Model note"] = "paints in one call, without prompt, steps, guidance, strength and sampler"
    if has_mask:
        asked |= {"mask_mode": "black" if fields.inpainting_mask_invert else "drawn"}
        asked |= {"mask_threshold": 0.5} if fields.mask_round and "Soft inpainting" not in notes else {}
    try:
        request = InpaintRequest.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidField(f"{first['loc'][0]}: {sentence_of(first)}") from None
    return Translated(fields, request, model, sampler, notes)


def _fields(body: Mapping[str, Any]) -> Img2Img:
    try:
        return Img2Img.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidField(f"{'.'.join(map(str, first['loc']))}: {sentence_of(first)}") from None


def model_of(catalog: Catalog, title: object) -> str:
    """The catalog's model, or its alias's, for a title as the web UI shows it: ``name``, ``name [hash]``,
    ``name.safetensors``."""
    if not title:
        return catalog.default
    names = [str(title), HASH.sub("", str(title))]
    names += [name.removesuffix(".safetensors") for name in names]
    names += [catalog.resolve_alias(name) for name in names]
    found = next((name for name in names if name in catalog.models), None)
    if found is None:
        raise UnknownModel(f"sd_model_checkpoint: there is no model {str(title)[:100]!r}. See /sdapi/v1/sd-models.")
    return found


def _syntax_for(entry: ModelEntry, *prompts: str) -> tuple[PromptSyntax, str]:
    """The web UI's own, where the model's family can weight words; else a note, if words are weighted."""
    if FAMILIES[entry.family].weights_prompts:
        return "a1111", ""
    try:
        weighted = any(is_weighted(parts_of(prompt, "a1111")) for prompt in prompts)
    except InvalidField:
        weighted = True
    return "plain", "read as text" if weighted else ""


def _guidance(fields: Img2Img, entry: ModelEntry) -> float:
    """Of models that take the scale as an input, Forge has a field of its own."""
    distilled = fields.distilled_cfg_scale
    return fields.cfg_scale if distilled is None or FAMILIES[entry.family].guides_by_rows else distilled


def _split(prompt: str) -> tuple[str, list[dict[str, Any]]]:
    """The prompt without its tags of adapters, and the adapters. Raises InvalidField."""
    loras = []
    for name, scale, other in LORA_TAG.findall(prompt):
        try:
            scales = {float(text) for text in (scale or "1", other or scale or "1")}
        except ValueError:
            raise InvalidField(f"prompt: write an adapter as <lora:{name}:0.8>.") from None
        if len(scales) > 1:
            raise InvalidField(f"prompt: <lora:{name}:...> has two scales that differ. Send one for all its layers.")
        loras.append({"name": name, "scale": scales.pop()})
    return re.sub(r"\s{2,}", " ", LORA_TAG.sub("", prompt)).strip() if loras else prompt, loras
