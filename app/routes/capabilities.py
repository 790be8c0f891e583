"""``/v1/capabilities``: what a client has to know to build a form, in one call."""

import hashlib
from typing import get_args

from fastapi import APIRouter, Request, Response
from pydantic import Field

from app.authentication import needs
from app.backend import Backend, BackendDep
from app.examples import KEY_PROBLEMS, problems
from app.responses import names_etag
from app.routes.loras import LoraView, loras
from app.routes.models import ModelView, SegmenterView, models
from app.routes.schedulers import SchedulerView, schedulers
from jobs.extend_fields import ANCHORS
from jobs.formats import NAMES, PILLOW_FORMATS
from jobs.mask_fields import MAX_BOXES, MAX_POINTS, MAX_SUBJECT_POINTS, MaskSubject
from jobs.schema import (
    BitDepth,
    Crop,
    Hires,
    InpaintRequest,
    MaskedContent,
    MaskMode,
    MaskScale,
    MetadataChoice,
    OutputColor,
    OutputFormat,
    Priority,
    PromptSyntax,
    Record,
    Task,
)

router = APIRouter(tags=["catalog"], responses=problems(*KEY_PROBLEMS), dependencies=[needs("read")])


FRESH_S = 60
"""How long a client may take it as it was: a worker that has loaded a model changes what is known of it."""


class Choices(Record):
    """The values of fields that take one of a list."""

    task: list[str]
    mask_mode: list[str]
    mask_scale: list[str]
    mask_subject: list[str]
    masked_content: list[str]
    prompt_syntax: list[str]
    anchor: list[str]
    crop: list[str]
    priority: list[str]
    hires: list[str]
    output_format: list[str]
    output_color: list[str]
    bit_depth: list[str]
    metadata: list[str]


class Range(Record):
    minimum: float | None = Field(description="null: none.")
    maximum: float | None
    default: float | None = Field(description="null: the model's, the format's, or a random seed.")


class Limits(Record):
    """What a request may be; a model's own limits stand with it."""

    fields: dict[str, Range] = Field(description="Of the fields that take a number.")
    prompt_characters: int
    mask_prompt_characters: int
    image_bytes: int
    mask_bytes: int
    mask_boxes: int
    mask_points: int = Field(description="Of all polygons together.")
    subject_points: int = Field(description="Of the field mask_points.")
    pixels: int = Field(description="Width times height of an upload.")
    wait_s: int = Field(description="The longest `Prefer: wait`.")
    queue: int = Field(description="Jobs of normal priority that may wait, of all callers together.")
    queue_low_priority: int = Field(description="Jobs of low priority that may wait beside them.")
    batch_bytes: int = Field(description="Of the lines of a batch together.")
    batch_lines: int
    caller_batches: int = Field(description="Batches of one caller that have not ended.")
    calls_per_minute: int | None = Field(description="Of one caller, like what follows; null: any number.")
    caller_jobs: int | None = Field(description="Jobs that may wait and run at a time.")
    caller_megapixels_per_day: int | None = Field(description="Width x height x n of all jobs of a day (UTC).")


class Capabilities(Record):
    models: list[ModelView]
    segmenters: list[SegmenterView]
    schedulers: list[SchedulerView]
    loras: list[LoraView]
    input_formats: list[str]
    choices: Choices
    limits: Limits


CHOICES = Choices(
    task=list(get_args(Task)),
    mask_mode=list(get_args(MaskMode)),
    mask_scale=list(get_args(MaskScale)),
    mask_subject=list(get_args(MaskSubject)),
    masked_content=list(get_args(MaskedContent)),
    prompt_syntax=list(get_args(PromptSyntax)),
    anchor=list(ANCHORS),
    crop=list(get_args(Crop)),
    priority=list(get_args(Priority)),
    hires=list(get_args(Hires)),
    output_format=list(get_args(OutputFormat)),
    output_color=list(get_args(OutputColor)),
    bit_depth=list(get_args(BitDepth)),
    metadata=list(get_args(MetadataChoice)),
)


@router.get(
    "/v1/capabilities",
    summary="All that a client can choose from",
    response_model=Capabilities,
    responses={**problems("store_unavailable"), 304: {"description": "As it was when it had this `ETag`."}},
)
def capabilities(request: Request, backend: BackendDep) -> Response:
    """Models with the schedulers that fit each, adapters, formats, choices and limits: what this service takes."""
    body = _capabilities(backend).model_dump_json().encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": f"private, max-age={FRESH_S}"}
    if names_etag(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _capabilities(backend: Backend) -> Capabilities:
    served = models(backend)
    return Capabilities(
        models=served.models,
        segmenters=served.segmenters,
        schedulers=schedulers().schedulers,
        loras=loras(backend).loras,
        input_formats=[NAMES[name] for name in PILLOW_FORMATS],
        choices=CHOICES,
        limits=_limits(backend),
    )


def _limits(backend: Backend) -> Limits:
    settings = backend.settings
    return Limits(
        fields=RANGES,
        prompt_characters=int(FIELDS["prompt"]["maxLength"]),
        mask_prompt_characters=int(FIELDS["mask_prompt"]["anyOf"][0]["maxLength"]),
        image_bytes=settings.max_image_bytes,
        mask_bytes=settings.max_mask_bytes,
        mask_boxes=MAX_BOXES,
        mask_points=MAX_POINTS,
        subject_points=MAX_SUBJECT_POINTS,
        pixels=settings.max_pixels,
        wait_s=settings.max_wait_s,
        queue=settings.queue_limit,
        queue_low_priority=settings.low_priority_limit,
        batch_bytes=settings.batch_bytes,
        batch_lines=settings.batch_lines,
        caller_batches=settings.caller_batches,
        calls_per_minute=settings.calls_per_minute or None,
        caller_jobs=settings.caller_jobs or None,
        caller_megapixels_per_day=settings.caller_megapixels_per_day or None,
    )


FIELDS = InpaintRequest.model_json_schema()["properties"]


def _ranges() -> dict[str, Range]:
    found = {}
    for name, schema in FIELDS.items():
        kinds = [schema, *schema.get("anyOf", [])]
        number = next((kind for kind in kinds if kind.get("type") in ("integer", "number")), None)
        if number:
            least = number.get("minimum", number.get("exclusiveMinimum"))
            found[name] = Range(minimum=least, maximum=number.get("maximum"), default=schema.get("default"))
    return found


RANGES = _ranges()
