"""Which tensors of a single file nothing reads: the names are followed through diffusers' own conversion."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import (
    SD_2_TEXT_ENCODER_KEYS_TO_IGNORE,
    convert_ldm_clip_checkpoint,
    convert_open_clip_checkpoint,
    convert_sd3_t5_checkpoint_to_diffusers,
)

IDLE = re.compile(
    r"model_ema\..*|first_stage_model\.(?:loss|model_ema)\..*|(?:denoiser|model_sampling)\..*"  # of the training
    r"|(?:.*\.)?(?:position_ids|logit_scale|attn_mask|spiece_model|text_projection(?:\.weight)?)"
    r"|betas|(?:(?:sqrt|log)_[a-z0-9_]*)?alphas_cumprod(?:_prev)?|posterior_[a-z0-9_]*|lvlb_weights|logvar|global_step"
)
"""Tensors of published files that no pipeline needs: averages and noise levels of the training, constants, and the
projection of a text encoder that has none in its pipeline."""

CLIP_PREFIXES = ("text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.")
OPEN_CLIP_PREFIXES = ("cond_stage_model.model.", "conditioner.embedders.0.model.", "conditioner.embedders.1.model.")

Weights = Mapping[str, torch.Tensor]


class Traced(torch.Tensor):
    """A tensor without data that knows of which tensors of the file it was made."""

    origins: frozenset[str]

    @classmethod
    def of(cls, name: str, shape: torch.Size) -> "Traced":
        traced = torch.empty(shape, device="meta").as_subclass(cls)
        traced.origins = frozenset([name])
        return traced

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        origins = frozenset().union(*(traced.origins for traced in _traced((args, kwargs))))
        for traced in _traced(result):
            traced.origins = origins
        return result


def _traced(values: Any) -> Iterator[Traced]:
    if isinstance(values, Traced):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _traced(value)


def unread(tensors: Mapping[str, torch.Size], parts: list[torch.nn.Module]) -> list[str]:
    """Names of the tensors of a file that are in none of ``parts``, which were read from it, and not idle."""
    traced = {name: Traced.of(name, shape) for name, shape in tensors.items()}
    read: set[str] = set()
    for part in parts:
        shapes = {name: tensor.shape for name, tensor in part.state_dict().items()}
        for convert in _converters(part):
            for name, tensor in _named_as(part, convert(dict(traced))).items():
                if isinstance(tensor, Traced) and tensor.shape == shapes.get(name):
                    read |= tensor.origins
    left = tensors.keys() - read - {*SD_2_TEXT_ENCODER_KEYS_TO_IGNORE}
    return sorted(name for name in left if not IDLE.fullmatch(name))


def _converters(part: torch.nn.Module) -> list[Callable[[Weights], Weights]]:
    """Those by which diffusers may have read a part from a file."""
    known = SINGLE_FILE_LOADABLE_CLASSES.get(type(part).__name__)
    if known:
        names = part.state_dict().keys()
        mapping: Any = known["checkpoint_mapping_fn"]
        return [lambda traced: traced if traced.keys() == names else mapping(config=part.config, checkpoint=traced)]
    return [
        *(partial(convert_ldm_clip_checkpoint, remove_prefix=prefix) for prefix in CLIP_PREFIXES),
        *(partial(_open_clip, part, prefix) for prefix in OPEN_CLIP_PREFIXES),
        convert_sd3_t5_checkpoint_to_diffusers,
    ]


def _open_clip(part: torch.nn.Module, prefix: str, traced: Weights) -> Weights:
    converted: Weights = convert_open_clip_checkpoint(part, traced, prefix=prefix)
    return converted


def _named_as(part: torch.nn.Module, converted: Weights) -> Weights:
    """CLIP's text model has no name of its own in newer versions of transformers."""
    if hasattr(part, "text_model"):
        return converted
    return {name.removeprefix("text_model."): tensor for name, tensor in converted.items()}
