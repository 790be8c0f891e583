"""The lines of OpenAI's batch files: edits in, as lines of our own batches; what became of them out."""

import json
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from fastapi.exceptions import HTTPException

from app.backend import Backend
from app.batch_lines import SHOWN_FAULTS, chunks_of
from app.dialects.openai.edit import Edit, is_address, taken_pictures
from app.dialects.openai.results import Results
from app.json_bodies import parsed
from app.outgoing import MEMORY_BYTES
from jobs.batches import LineOutcome
from jobs.errors import InvalidField, JobError, RequestError
from jobs.job_view import view_job
from jobs.schema import InputName

ENDPOINT = "/v1/images/edits"
NAMES = {"custom_id", "method", "url", "body"}


def translated(backend: Backend, file: BinaryIO, ignored: set[str]) -> BinaryIO:
    """A file of our own lines, with the same numbers; the caller closes it. ``ignored``: gets names of fields.

    Raises InvalidField, which names the first lines that cannot be taken, and why.
    """
    target = cast("BinaryIO", SpooledTemporaryFile(max_size=MEMORY_BYTES))  # noqa: SIM115  # closed by the caller
    faults, last = list[str](), 1
    try:
        chunks = chunks_of(file, backend.settings.batch_lines)
        for number, text in (line for _, chunk in chunks for line in chunk):
            try:
                line = _translated(backend, text, ignored)
            except RequestError as error:
                faults.append(f"line {number}: {error}")
                if len(faults) == SHOWN_FAULTS:
                    break
            else:
                target.write(b"\n" * (number - last) + json.dumps(line).encode())
                last = number
        if faults:
            raise InvalidField(f"Some lines cannot be taken, so none was. The first of them: {' '.join(faults)}")
    except BaseException:
        target.close()
        raise
    return target


def _translated(backend: Backend, text: bytes, ignored: set[str]) -> dict[str, Any]:
    """The line in our form. Raises RequestErrors."""
    try:
        value = parsed(text)
    except HTTPException as error:
        raise InvalidField(str(error.detail).replace("The body is", "it is")) from None
    if not isinstance(value, dict) or not isinstance(fields := value.get("body"), dict):
        raise InvalidField(f"it is not an object with custom_id, method POST, url {ENDPOINT} and body, an object.")
    if unknown := sorted(value.keys() - NAMES):
        raise InvalidField(f"there is no field {unknown[0][:100]!r} beside custom_id, method, url and body.")
    if value.get("method") != "POST" or value.get("url") != ENDPOINT:
        raise InvalidField(f"method, url: send POST and {ENDPOINT}.")
    images, masks = taken_pictures(fields)
    edit = Edit(fields, [], [], {"image": images, "mask": masks})
    edit.check()
    if edit.streams:
        raise InvalidField("stream: a batch answers with whole results. Leave it out.")
    if edit.wants_addresses:
        raise InvalidField("response_format: a batch answers with b64_json. Leave it out.")
    if edit.size:
        raise InvalidField("size: results of a batch have the photo's own size. Send auto, or leave it out.")
    request = edit.request(backend)
    ignored |= edit.ignored
    if not masks and not edit.has_shapes:
        masks = images
    line: dict[str, Any] = json.loads(request.model_dump_json(exclude_unset=True)) | {
        "custom_id": value.get("custom_id")
    }
    return line | _field("image", images) | _field("mask", masks)


def _field(name: InputName, pictures: list[str]) -> dict[str, str]:
    return {f"{name}_url" if is_address(text) else name: text for text in pictures}


def output_line(backend: Backend, batch_id: str, outcome: LineOutcome) -> str:
    """What became of a line that succeeded, with its images."""
    assert outcome.job
    job_id = outcome.job.rpartition("/")[2]
    try:
        view = view_job(backend.queue, job_id)
        body = Results(backend, view, Edit({"output_format": view.output_format}, [], []), None, 100, True, "").body()
    except JobError as error:
        return _line(batch_id, outcome, error={"code": error.code, "message": str(error)})
    return _line(batch_id, outcome, {"status_code": 200, "request_id": job_id, "body": body})


def error_line(batch_id: str, outcome: LineOutcome) -> str:
    """Why a line did not succeed."""
    if outcome.error:
        error = {"code": outcome.error.code, "message": outcome.error.message}
    else:
        spelled = {"canceled": "cancelled"}.get(outcome.status, outcome.status)
        error = {"code": f"batch_{spelled}", "message": f"The batch was {spelled} before this line was done."}
    return _line(batch_id, outcome, error=error)


def _line(
    batch_id: str,
    outcome: LineOutcome,
    response: dict[str, Any] | None = None,
    error: dict[str, str] | None = None,
) -> str:
    name = f"batch_req_{batch_id.removeprefix('batch_')}_{outcome.custom_id}"
    line = {"id": name, "custom_id": outcome.custom_id, "response": response, "error": error}
    return json.dumps(line) + "\n"
