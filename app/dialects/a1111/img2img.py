"""``POST /sdapi/v1/img2img``."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, BinaryIO

import anyio.to_thread
from fastapi import Request, Response

from app.authentication import Caller
from app.backend import Backend, BackendDep
from app.base64_files import file_of
from app.dialects.a1111.callers_choice import CallersChoice
from app.dialects.a1111.fields import Context, Img2Img, Translated, translate
from app.dialects.a1111.results import Results
from app.dialects.a1111.route import json_object
from app.json_bodies import MAX_TEXT_BYTES, JsonBody
from app.problems import error_classes
from app.responses import left_response
from app.schedulers import offered_schedulers
from app.submission import Submission, Wait, submit_and_wait
from app.uploads import Size, check_file, read_file
from jobs.errors import InvalidField, JobCanceled, JobFailure, StillRunning
from jobs.job_view import JobView
from jobs.queue import Submitted
from jobs.schema import InputName, JobStatus

FILES: dict[str, InputName] = {"init_images": "image", "mask": "mask"}
"""Fields that hold pictures -> our names of these."""


async def img2img(request: Request, backend: BackendDep, caller: Caller) -> Response:
    """Repaint ``init_images[0]`` where ``mask`` is white, or opaque if it has transparent pixels."""
    with ExitStack() as open_files:
        async with json_object(request) as body:
            sent, files = await anyio.to_thread.run_sync(_split, body, open_files)
        choice = CallersChoice(backend.queue.connection, caller)
        context = await anyio.to_thread.run_sync(_context, backend, choice)
        asked, size = await _sized(backend, translate(sent, context, "mask" in files), files)

        async def accepted(submitted: Submitted) -> None:
            request.state.job_id = submitted.job_id
            open_files.close()
            request.state.body.release()
            await anyio.to_thread.run_sync(choice.remember, submitted.job_id)

        given = json.loads(asked.request.model_dump_json(exclude_unset=True))
        wait = Wait(backend.settings.max_wait_s, request.is_disconnected, "cancel")
        submission = Submission(asked.request, files, caller, given, request_id=request.state.request_id)
        answer = await submit_and_wait(backend, submission, wait, accepted)
    if answer.view is None:
        return left_response()
    return await Results(backend, asked, _ended(answer.view), size).response()


def _context(backend: Backend, choice: CallersChoice) -> Context:
    return Context(backend.catalog, choice.model(), offered_schedulers(backend))


async def _sized(
    backend: Backend, asked: Translated, files: Mapping[InputName, BinaryIO]
) -> tuple[Translated, Size | None]:
    """The request, with all of the picture as its mask where none was sent; the size that results are stretched to.

    Raises InvalidField, and what reading the image does, which is read only if its size matters.
    """
    if "mask" in files and asked.fields.inpaint_full_res:
        return asked, None
    most = backend.settings.max_image_bytes
    await anyio.to_thread.run_sync(check_file, files["image"], most, "image")
    async with backend.decoders.turn():
        data = await anyio.to_thread.run_sync(read_file, files["image"], most, "image")
        size = (await backend.decoders.image(data)).size
    if "mask" not in files:  # the web UI repaints the whole picture then
        whole = {"mask_box": ((0.0, 0.0, float(size[0]), float(size[1])),)}
        asked = replace(asked, request=asked.request.model_copy(update=whole))
    return asked, asked.fitted(size)


def _split(body: JsonBody, open_files: ExitStack) -> tuple[Mapping[str, Any], dict[InputName, BinaryIO]]:
    """The fields, and the pictures as files. Raises InvalidField."""
    sent: dict[str, Any] = body.value
    images = sent.get("init_images") or []
    images = images if isinstance(images, list) else [images]
    if len(images) != 1:
        raise InvalidField(f"init_images: {len(images)} pictures were sent. Send one.")
    pictures = {"init_images": images[0]} | ({"mask": sent["mask"]} if sent.get("mask") else {})
    files: dict[InputName, BinaryIO] = {}
    for field, text in pictures.items():
        if not isinstance(text, str):
            raise InvalidField(f"{field}: send a picture's bytes in base64, alone or as a data URL.")
        files[FILES[field]] = file_of(body, field, text).file
        open_files.callback(files[FILES[field]].close)
    for name in Img2Img.model_fields:
        if isinstance(sent.get(name), str) and sent[name] in body.long_texts:
            raise InvalidField(f"{name}: the text is longer than {MAX_TEXT_BYTES} bytes.")
    return {name: value for name, value in sent.items() if name not in FILES}, files


def _ended(view: JobView) -> JobView:
    """The job, if it has succeeded. Raises StillRunning, JobCanceled, and the failure of one that has failed."""
    if not view.status.ended:
        raise StillRunning(f"The job is {view.status.value} and goes on; see {view.url}.")
    if view.status is JobStatus.FAILED and view.error:
        raise error_classes().get(view.error.code, JobFailure)(view.error.message)
    if view.status is JobStatus.CANCELED:
        raise JobCanceled("The job was interrupted before it had an image.")
    return view
