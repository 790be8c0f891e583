"""From a request and its files to an accepted job, and to its end for a caller that waits. Knows no HTTP.

Each API, native or of another client, translates into a ``Submission`` and what comes back into its own response.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

import anyio

from app import extension, hires
from app.backend import Backend
from app.follow import look, wait_for_end
from app.loras import check_loras
from app.mask_shapes import Shapes
from app.masks import DecodedMask
from app.schedulers import check_found_scheduler
from app.selections import asks_for_subject, plain, selection_of
from app.uploads import Size, check_file, check_kept_depth, read_file
from jobs.approximations import approximations_of
from jobs.catalog import ModelEntry
from jobs.deliveries import Delivery
from jobs.errors import InvalidField, JobError, NoSurroundings
from jobs.eta import region_of, workload_on
from jobs.job_view import JobView
from jobs.outputs import check_output, file_bytes
from jobs.queue import Idempotency, Submitted
from jobs.room import results_at_most
from jobs.schema import FindMask, InpaintParameters, InpaintRequest, InputName

HASHED_BYTES = 2**18
"""Of a file at a time."""


@dataclass(frozen=True)
class Submission:
    """What a caller asks for. The files stay where they are (above 1 MB on disk) until a decoder is free."""

    request: InpaintRequest
    files: Mapping[InputName, BinaryIO]
    caller: str
    given: Mapping[str, Any]
    """The fields as the caller sent them: with the files, what a repeated call is compared by."""
    idempotency_key: str | None = None
    deliveries: Sequence[Delivery] = ()
    """What is sent out when the job has ended."""
    request_id: str = ""

    def idempotency(self) -> Idempotency | None:
        """Two callers may use the same key without meeting each other's jobs. Reads the files."""
        if self.idempotency_key is None:
            return None
        key = hashlib.sha256(f"{self.caller}\n{self.idempotency_key}".encode()).hexdigest()
        digest = hashlib.sha256(json.dumps(self.given, sort_keys=True).encode())
        for name in sorted(self.files):
            digest.update(_digest(self.files[name]))
        return Idempotency(key, digest.hexdigest())


@dataclass(frozen=True)
class Wait:
    """How a caller waits for the end of its job."""

    seconds: float
    has_left: Callable[[], Awaitable[bool]]
    on_leaving: Literal["continue", "cancel"] = "continue"


@dataclass(frozen=True)
class Answer:
    """``view`` is the job as it is at the end of the wait; None for a caller that has left meanwhile."""

    submitted: Submitted
    view: JobView | None


async def submit_and_wait(
    backend: Backend,
    submission: Submission,
    wait: Wait | None = None,
    accepted: Callable[[Submitted], Awaitable[None]] | None = None,
) -> Answer:
    """Check, decode and enqueue; then wait for the job's end, if ``wait`` asks for it.

    Args:
        accepted: called once the job is in the queue and the files are not needed any more.

    Raises:
        RequestError, Refused: no job was made.
    """
    submitted = await submit(backend, submission)
    if accepted:
        await accepted(submitted)
    if wait is None:
        return Answer(submitted, await look(backend, submitted.job_id))
    view = await wait_for_end(backend, wait.has_left, submitted.job_id, wait.seconds)
    if view is None and wait.on_leaving == "cancel":
        await cancel_as_left(backend, submitted.job_id)
    return Answer(submitted, view)


async def cancel_as_left(backend: Backend, job_id: str) -> None:
    """Cancel a job whose caller has left, unless it has just ended."""
    with suppress(JobError):
        await anyio.to_thread.run_sync(backend.queue.cancel, job_id)
        backend.metrics.canceled.labels("left").inc()


async def submit(backend: Backend, submission: Submission) -> Submitted:
    """Check, decode the mask and enqueue a job.

    Raises the RequestErrors and Refused of ``jobs/errors.py``.
    """
    submission = replace(submission, request=plain(submission.request))
    parameters = backend.catalog.resolve(submission.request)

    def check() -> tuple[Idempotency | None, Submitted | None]:
        extension.check_fields(submission.request, "mask" in submission.files)
        if submission.request.task != "extend":
            _check_mask_fields(submission.request, "mask" in submission.files)
        _check_files(backend, submission.files)
        idempotency = submission.idempotency()
        return idempotency, _before_decoding(backend, parameters, submission, idempotency)

    idempotency, submitted = await anyio.to_thread.run_sync(check)
    if submitted is None:
        async with _decoder(backend, submission):
            submitted = await _decode_and_enqueue(backend, parameters, submission, idempotency)
    if submitted.replayed:
        backend.metrics.replayed.inc()
    else:
        backend.metrics.submitted.labels(parameters.model).inc()
    return submitted


@asynccontextmanager
async def _decoder(backend: Backend, submission: Submission) -> AsyncIterator[None]:
    """A decoder's turn; before it, a place where a subject is to be found. Raises DecodersBusy."""
    async with AsyncExitStack() as held:
        if asks_for_subject(submission.request):
            await held.enter_async_context(backend.selections.place(submission.caller))
        await held.enter_async_context(backend.decoders.turn())
        yield


def _check_files(backend: Backend, files: Mapping[InputName, BinaryIO]) -> None:
    """Raise InvalidField without an image; TooLarge, InvalidImage, InvalidMask."""
    if "image" not in files:
        raise InvalidField("image: This field is missing.")
    for name, limit_bytes in _limits(backend).items():
        if name in files:
            check_file(files[name], limit_bytes, name)


def _check_mask_fields(request: InpaintRequest, has_file: bool) -> None:
    """Raise InvalidField for fields without a meaning beside the others, and where nothing says what is repainted."""
    if request.mask_prompt is not None:
        if has_file or request.mask_box or request.mask_polygon or request.mask_points:
            raise InvalidField(
                "mask, mask_box, mask_polygon, mask_points: with mask_prompt the mask is found by the words alone, and "
                "none of these can be sent. mask_subject can."
            )
    elif asks_for_subject(request):
        selection_of(request)
        if has_file or request.mask_polygon:
            raise InvalidField(
                "mask, mask_polygon: with mask_points, mask_subject or task=replace_background the mask is found, and "
                "neither can be sent. POST /v1/masks finds it, and what it answers with can be sent as mask."
            )
    elif not (has_file or _shapes_of(request)):
        raise InvalidField("mask: This field is missing. Send a mask file, mask_box or mask_polygon.")
    about_the_file = {name: getattr(request, name) for name in ("mask_mode", "mask_scale", "mask_threshold")}
    unread = [name for name, value in about_the_file.items() if value != InpaintRequest.model_fields[name].default]
    if unread and not has_file:
        raise InvalidField(f"{', '.join(unread)}: it says how a mask file is read, and none was sent. Leave it out.")
    if request.mask_threshold and request.mask_scale == "binary":
        raise InvalidField(
            "mask_threshold, mask_scale: with mask_scale=binary every value above 0 is full already. Send one of them."
        )


def _shapes_of(request: InpaintRequest) -> Shapes:
    return Shapes(request.mask_box, request.mask_polygon)


def _limits(backend: Backend) -> dict[InputName, int]:
    return {"image": backend.settings.max_image_bytes, "mask": backend.settings.max_mask_bytes}


def _digest(file: BinaryIO) -> bytes:
    """SHA-256 of a file from its start, to which it returns."""
    digest = hashlib.sha256()
    while part := file.read(HASHED_BYTES):
        digest.update(part)
    file.seek(0)
    return digest.digest()


async def _decode_and_enqueue(
    backend: Backend, parameters: InpaintParameters, submission: Submission, idempotency: Idempotency | None
) -> Submitted:
    """What holds the uploads' bytes: as many calls of it run as there are decoders."""
    entry, limits, files = backend.catalog.model(parameters.model), _limits(backend), submission.files
    image = await anyio.to_thread.run_sync(read_file, files["image"], limits["image"], "image")
    photo = await backend.decoders.image(image)
    size = photo.size
    check_output(parameters.output_format, size, photo.alpha)
    if parameters.bit_depth == "keep":
        check_kept_depth(photo, parameters.output_color)
    asked = submission.request
    if extended := extension.plan(asked, size, backend.settings.max_pixels):
        size, parameters = extended.size, parameters.model_copy(update={"extend": extended})
        mask = await backend.decoders.border(extended)
    elif parameters.find:
        mask = await _unknown_mask(backend, parameters.find, size)
    elif asks_for_subject(asked):
        mask = await backend.decoders.subject(image, selection_of(asked))
    else:
        uploaded = None
        if "mask" in files:
            uploaded = await anyio.to_thread.run_sync(read_file, files["mask"], limits["mask"], "mask")
        how = (parameters.mask_mode, asked.mask_scale, size, asked.mask_threshold, _shapes_of(asked))
        mask = await backend.decoders.mask(uploaded, *how)
        del uploaded
    parameters = parameters.model_copy(update={"mask_mode": mask.report.mode})  # auto: as it was read
    if not parameters.find:
        _check_surroundings(mask, parameters, entry)
    region = region_of(parameters, entry, size, mask.report.bbox)
    tiles = () if parameters.find else hires.plan(asked.hires, parameters, entry, region, size, mask)
    parameters = hires.with_tiles(parameters, entry, tiles)
    work = workload_on(parameters, entry, region.canvas[0] * region.canvas[1], tiles)
    pixels = size[0] * size[1] + sum(tile.canvas[0] * tile.canvas[1] for tile in tiles)
    known = None if parameters.find else region
    approximate = approximations_of(parameters, entry.num_inference_steps, known, len(tiles))
    inputs: dict[InputName, bytes] = {"image": image, "mask": mask.png}
    reserved = results_at_most(parameters, image, size)
    reserved += file_bytes("png", None, size, 1, 8) if parameters.find else 0
    return await anyio.to_thread.run_sync(
        backend.queue.submit,
        *(parameters, mask.report, inputs, idempotency, submission.caller, work, approximate, reserved),
        *(backend.authentication.keys is not None, pixels * parameters.n, submission.deliveries),
        submission.request_id,
        asked.priority,
    )


async def _unknown_mask(backend: Backend, find: FindMask, size: Size) -> DecodedMask:
    """The whole picture: where a worker may find what words name. Raises DecodersBusy."""
    mask = await backend.decoders.mask(None, "white", "full", size, None, Shapes(((0, 0, *size),), ()))
    said = {"sources": ["prompt"], "subject": find.subject, "prompt": find.prompt, "model": find.model}
    return replace(mask, report=mask.report.model_copy(update=said))


def _before_decoding(
    backend: Backend, parameters: InpaintParameters, submission: Submission, idempotency: Idempotency | None
) -> Submitted | None:
    """Answer a repeated request; refuse an unfit scheduler or adapter, and what has no room, before decoding pixels."""
    if idempotency and (earlier := backend.queue.replay(idempotency)):
        return earlier
    check_found_scheduler(backend, parameters)
    check_loras(backend, parameters)
    backend.queue.check_room(submission.caller, priority=submission.request.priority)
    return None


def _check_surroundings(mask: DecodedMask, parameters: InpaintParameters, entry: ModelEntry) -> None:
    """Raise NoSurroundings for a mask of the whole picture where the model cannot paint without surroundings."""
    if entry.needs_surroundings and not mask.leaves_known:
        raise NoSurroundings(
            f"mask: it covers the whole picture, and model {parameters.model!r} paints from what surrounds a hole. "
            "Leave a part of the picture out of the mask, or name a model whose needs_surroundings is false in "
            "/v1/models."
        )
