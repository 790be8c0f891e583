"""What a job's report and its files say of what was done."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from jobs import mask_values
from jobs.regions import Box, Region
from jobs.schema import InpaintParameters, MaskMode, MaskReport, PromptTokens, RegionReport
from worker.families.base import Family
from worker.pixels import masks, xmp
from worker.pixels.canvas import Pixels


def mask_report(
    mode: MaskMode, mask: Pixels, bbox: Box, changed_outside: int, score: float | None = None
) -> MaskReport:
    """``mask``: the effective one, (H, W); ``changed_outside``: pixels, over all images; ``score``: of found words."""
    return MaskReport(
        mode=mode,
        coverage=mask_values.coverage(mask),
        bbox=bbox,
        soft=masks.is_soft(mask),
        score=score,
        changed_outside_mask=changed_outside,
    )


def region_report(passes: Sequence[Region]) -> RegionReport:
    """Of the first pass, and how many tiles followed it."""
    first = passes[0]
    return RegionReport(box=first.box, run_px=first.run_px, scale=round(first.scale, 6), tiles=len(passes) - 1)


def tokens_of(family: Family, asked: InpaintParameters, guided: bool) -> tuple[dict[str, PromptTokens], bool]:
    """What the text encoders read of the prompt, and of the negative prompt where guidance is computed from it.

    Returns:
        The counts of the encoder that reads least, by their names in the report; whether no encoder reads all of one.
    """
    prompts = {"prompt_tokens": asked.prompt}
    prompts |= {"negative_prompt_tokens": asked.negative_prompt} if guided else {}
    found, cut = dict[str, PromptTokens](), False
    for name, prompt in prompts.items():
        if counted := family.prompt_tokens(prompt, asked.prompt_syntax):
            found[name] = max(counted, key=lambda tokens: (tokens.cut, -tokens.limit))
            cut = cut or all(tokens.cut for tokens in counted)
    return found, cut


def xmp_packet(uploads: bytes, model: str | None) -> bytes:
    """The upload's XMP, with the mark of a model; empty where there is nothing to say."""
    return xmp.packet(uploads, model) if model is not None or uploads else b""


def metadata(asked: InpaintParameters, index: int, mask: MaskReport, told: Mapping[str, Any]) -> str:
    """An image's own, as JSON; the timings end with a PNG's encoding, and before that of other formats."""
    effective = mask.model_dump(exclude={"scale", "snapped"})  # of the upload: the API alone knows them
    described = {"model": asked.model, "seed": asked.seeds[index], "mask": effective}
    described |= asked.model_dump(include={"extend"})  # absent where there is none
    rest = {name: value.model_dump() if isinstance(value, BaseModel) else value for name, value in told.items()}
    return json.dumps({**described, **rest})
