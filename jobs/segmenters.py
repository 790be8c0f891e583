"""Segmenters: networks that find what words name in a photo. The mask is made in the worker, before the job's region.

They stand in the catalog's table ``segmenters``, are loaded and evicted with its models, and paint nothing.
"""

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from jobs.errors import InvalidField, UnknownModel
from jobs.schema import FindMask, InpaintRequest, Record

Network = Literal["clipseg"]


class SegmenterEntry(Record):
    """A segmenter: its network, where its files are, and how sure of an answer it has to be."""

    network: Network = Field(description="clipseg: transformers' CLIPSegForImageSegmentation, with its processor")
    source: str = Field(min_length=1, description='a folder of transformers, or "org/name" on the hub')
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    least_score: float = Field(0.6, ge=0, le=1, description="an answer with a lower score fails its job")
    pinned: bool = Field(False, description="loaded at a worker's start and never evicted")
    description: str = ""

    @property
    def on_hub(self) -> bool:
        """By its form alone, as a model's source is."""
        return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.source))


def search_of(segmenters: Mapping[str, SegmenterEntry], request: InpaintRequest) -> FindMask | None:
    """What a request has a segmenter find; None where it names no words.

    Raises InvalidField for words without a segmenter, or a segmenter without words; UnknownModel.
    """
    if request.mask_prompt is None:
        if request.mask_model is not None:
            raise InvalidField("mask_model: it finds what mask_prompt names, and none was sent. Send both, or neither.")
        return None
    if not request.mask_prompt.strip():
        raise InvalidField("mask_prompt: it is blank. Name what is to be found, as in: the red car.")
    if not segmenters:
        raise InvalidField(
            "mask_prompt: this service has no segmenter, which would find words. Send mask_points, mask_box, "
            "mask_subject or a mask."
        )
    known = ", ".join(segmenters)
    if request.mask_model is None and len(segmenters) > 1:
        raise InvalidField(f"mask_model: say which segmenter is to find mask_prompt: {known}.")
    name = request.mask_model or next(iter(segmenters))
    if name not in segmenters:
        raise UnknownModel(f"mask_model: there is no segmenter {name!r}. Known segmenters: {known}.")
    if request.hires == "tile":
        raise InvalidField(
            "hires: tiles are counted at submission, and with mask_prompt the hole is not known then. Leave it out."
        )
    return FindMask(model=name, prompt=request.mask_prompt, subject=request.mask_subject or "foreground")
