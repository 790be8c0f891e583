"""From the form's fields and files to an accepted job."""

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import BinaryIO, Literal

import anyio
from fastapi import UploadFile
from fastapi.datastructures import FormData
from pydantic import ConfigDict, Field, Json

from app.examples import FORM
from app.loras import check_loras
from app.masks import SettledMask
from app.schedulers import check_found_scheduler
from app.service import Service
from app.settings import ApiSettings
from app.uploads import read_file
from jobs.approximations import approximations_of, check_caching
from jobs.catalog import Catalog, ModelEntry
from jobs.errors import InvalidField, NoSurroundings, UnknownField
from jobs.queue import Idempotency, Submitted
from jobs.room import results_at_most
from jobs.schedulers import check_scheduler
from jobs.schema import MAX_SEED, InpaintParameters, InpaintRequest, Loras
from jobs.work import region_of, work_on

FILES = {"image", "mask"}
ABOUT_THE_CALL = {"on_disconnect"}
READ_HERE = {"mask_scale"}
"""Fields that have done their work once the mask has been read."""


class InpaintForm(InpaintRequest):
    """The multipart form of ``POST /v1/inpaint``. An empty value counts as absent."""

    model_config = ConfigDict(json_schema_extra={"example": FORM})

    loras: Json[Loras] = Field((), description='Adapters for this request only: [{"name": "...", "scale": 0.8}, ...]')
    image: UploadFile = Field(description="The photo: PNG, JPEG, WebP or TIFF.")
    mask: UploadFile = Field(description="Of the image's size; mask_mode says how it is read.")
    on_disconnect: Literal["continue", "cancel"] = Field(
        "continue", description="What becomes of the job if the caller leaves while the call waits (Prefer: wait)."
    )


@dataclass(frozen=True)
class Files:
    image: bytes
    mask: bytes


def check_names(form: FormData) -> None:
    """Raise UnknownField, or InvalidField for a field that came twice: which one was meant would be a guess."""
    names = [name for name, _ in form.multi_items()]
    unknown = sorted(set(names) - set(InpaintForm.model_fields))
    if unknown:
        quoted = ", ".join(repr(name[:100]) for name in unknown[:10])
        raise UnknownField(f"There is no field {quoted}. The fields are {', '.join(InpaintForm.model_fields)}.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidField(f"{', '.join(twice)}: sent more than once. Send each field once.")


def settle_parameters(request: InpaintRequest, catalog: Catalog) -> InpaintParameters:
    """Fields that were sent win over the preset, the preset over the model's defaults; else a random seed.

    Raises:
        UnknownModel, InvalidField: the catalog has no such model, preset or scheduler, or the model does not go so far.
    """
    name = request.model or catalog.default
    defaults = catalog.model(name)
    preset = (
        defaults.preset(request.preset).model_dump(exclude_none=True, exclude={"description"}) if request.preset else {}
    )
    given = request.model_dump(exclude_none=True, exclude={*FILES, *ABOUT_THE_CALL, *READ_HERE, "preset"})
    settled = {
        "seed": secrets.randbelow(last_seed(request.n) + 1),
        "num_inference_steps": defaults.num_inference_steps,
        "guidance_scale": defaults.guidance_scale,
        "strength": defaults.strength,
        "scheduler": defaults.scheduler,
        "masked_content": defaults.masked_content,
    }
    parameters = InpaintParameters.model_validate(settled | preset | given | {"model": name})
    check_scheduler(parameters.scheduler, defaults.family, parameters.num_inference_steps, defaults.schedulers)
    check_caching(parameters.cache_interval, defaults.family)
    check_limits(parameters, defaults)
    return parameters


def check_limits(parameters: InpaintParameters, entry: ModelEntry) -> None:
    """Raise InvalidField for what the model's entry in the catalog does not allow, and seeds that would not be."""
    limits = {"num_inference_steps": entry.max_num_inference_steps, "n": entry.max_n}
    for name, limit in limits.items():
        if getattr(parameters, name) > limit:
            raise InvalidField(f"{name}: model {parameters.model!r} takes at most {limit}.")
    if parameters.seed > last_seed(parameters.n):
        raise InvalidField(
            f"seed, n: image k of n uses seed + k, and {parameters.seed} + {parameters.n - 1} is above {MAX_SEED}. "
            f"With n={parameters.n} send a seed up to {last_seed(parameters.n)}."
        )


def last_seed(n: int) -> int:
    """The largest seed whose ``n`` images all have one that can be sent again."""
    return MAX_SEED - (n - 1)


def fingerprint(request: InpaintRequest, files: Files) -> str:
    """SHA-256 over what the caller sent: the fields that were given, and both files."""
    fields = json.dumps(request.model_dump(exclude_unset=True, exclude=FILES | ABOUT_THE_CALL), sort_keys=True)
    digest = hashlib.sha256(fields.encode())
    for data in (files.image, files.mask):
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def idempotency_of(key: str, caller: str, request: InpaintRequest, files: Files) -> Idempotency:
    """Two callers may use the same key without meeting each other's jobs."""
    return Idempotency(hashlib.sha256(f"{caller}\n{key}".encode()).hexdigest(), fingerprint(request, files))


async def submit(service: Service, form: InpaintForm, caller: str, idempotency_key: str | None = None) -> Submitted:
    """Check, settle the mask and enqueue a job of ``caller``.

    Raises the RequestErrors and Refused of ``jobs/errors.py``.
    """
    parameters = settle_parameters(form, service.catalog)
    files = await anyio.to_thread.run_sync(_read, service.settings, form.image.file, form.mask.file)
    idempotency = idempotency_of(idempotency_key, caller, form, files) if idempotency_key else None
    if earlier := await anyio.to_thread.run_sync(_before_decoding, service, parameters, caller, idempotency):
        return earlier
    entry = service.catalog.model(parameters.model)
    size = await service.decoders.image(files.image)
    mask = await service.decoders.mask(files.mask, parameters.mask_mode, form.mask_scale, size)
    _check_surroundings(mask, parameters, entry)
    region = region_of(parameters, entry, size, mask.report.bbox)
    work = work_on(parameters, entry, region.canvas[0] * region.canvas[1])
    approximate = approximations_of(parameters, entry.num_inference_steps, region)
    reserved = results_at_most(parameters, files.image, size)
    return await anyio.to_thread.run_sync(
        service.queue.submit,
        *(parameters, mask.report, files.image, mask.png, idempotency, caller, work, approximate, reserved),
    )


def _read(settings: ApiSettings, image: BinaryIO, mask: BinaryIO) -> Files:
    return Files(
        read_file(image, settings.max_image_bytes, "image"),
        read_file(mask, settings.max_mask_bytes, "mask"),
    )


def _before_decoding(
    service: Service, parameters: InpaintParameters, caller: str, idempotency: Idempotency | None
) -> Submitted | None:
    """Answer a repeated request; refuse an unfit scheduler or adapter, and what has no room, before decoding pixels."""
    if idempotency and (earlier := service.queue.replay(idempotency)):
        return earlier
    check_found_scheduler(service, parameters)
    check_loras(service, parameters)
    service.queue.check_room(caller)
    return None


def _check_surroundings(mask: SettledMask, parameters: InpaintParameters, entry: ModelEntry) -> None:
    """Raise NoSurroundings for a mask of the whole picture where the model cannot paint without surroundings."""
    if entry.needs_surroundings and not mask.leaves_known:
        raise NoSurroundings(
            f"mask: it covers the whole picture, and model {parameters.model!r} paints from what surrounds a hole. "
            "Leave a part of the picture out of the mask, or name a model whose needs_surroundings is false in "
            "/v1/models."
        )
