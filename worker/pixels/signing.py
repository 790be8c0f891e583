"""Results signed with the operator's key, by C2PA: what is said of an edit, and the children that sign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from jobs.errors import BadCredentials, SigningFailed
from jobs.file_structure import manifest_bytes
from jobs.outputs import MANIFEST_BYTES, MEDIA_TYPES
from jobs.regions import Box
from jobs.sandbox.errors import ChildCrashed, FunctionFailed, LimitExceeded, Limits, SandboxError
from jobs.sandbox.pool import Sandbox
from jobs.schema import Extension, InpaintParameters, ManifestAction, PictureFormat, Task
from worker.pixels.credentials import CERTIFICATES, Credentials
from worker.pixels.png import PngWriter
from worker.pixels.xmp import DIGITAL_SOURCE, tool

LIMITS = Limits(cpu_s=20, wall_s=120, memory_bytes=3 * 2**30, input_bytes=2**30, output_bytes=2**29)
"""Of one result. The largest that the API allows, a PNG of 89 megapixels, and its upload fit."""
WAIT_S = 600.0
TRIAL = PngWriter(np.zeros((1, 1), np.uint8)).finish({})
START_S = 60.0

OPENED = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["upload"]}}
EDITED: dict[Task, str] = {
    "fill": "A model painted a part of the picture.",
    "remove": "A model painted over something, from what surrounds it.",
    "extend": "A model painted new borders around the picture.",
    "replace_background": "A model painted the background of the subject.",
}


@dataclass(frozen=True)
class Statement:
    """What a result's manifest says. Nothing of the prompt.

    box: [left, top, right, bottom] in pixels of the result: all that was painted lies in it.
    """

    parameters: InpaintParameters
    upload_format: PictureFormat
    box: Box

    def arguments(self) -> dict[str, Any]:
        """For ``manifests.sign_in_child``."""
        return {
            "actions": self._actions(),
            "generator": generator(),
            "places": self.parameters.metadata == "keep_gps",
            "result_type": MEDIA_TYPES[self.parameters.output_format],
            "upload_type": f"image/{self.upload_format}",
        }

    def _actions(self) -> list[dict[str, Any]]:
        """C2PA specification 2.4, "Actions": in their order."""
        parameters = self.parameters
        edited = {
            "action": "c2pa.edited",
            "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "softwareAgent": {"name": parameters.model},
            "digitalSourceType": DIGITAL_SOURCE,
            "description": EDITED[parameters.task],
            "changes": [{"region": [_rectangle(box)]} for box in self._boxes()],
        }
        resized = [{"action": "c2pa.resized"}] if parameters.extend else []
        converted = [{"action": "c2pa.converted"}] if parameters.output_format != self.upload_format else []
        return [OPENED, *resized, edited, *converted]

    def _boxes(self) -> list[Box]:
        return [self.box] if self.parameters.extend is None else borders(self.parameters.extend)


Sign = Callable[[bytes, bytes, Statement], tuple[bytes, ManifestAction]]
"""A result's file, its upload's, what to say -> the signed file, what became of the upload's manifest.

Raises SigningFailed.
"""


def signed(
    sign: Sign, files: Sequence[bytes], upload: bytes, statement: Statement
) -> tuple[list[bytes], ManifestAction]:
    """All results of a job, and what became of the upload's manifest. Raises SigningFailed."""
    made = list[bytes]()
    found: ManifestAction | None = None
    for file in files:
        one, action = sign(file, upload, statement)
        made.append(one)
        found = found or action
        if action not in ("kept", "invalid"):
            upload = b""  # what was too much for a child is not tried again
    return made, found or "none"


class Signers:
    """A ``Sign`` in child processes, as many as threads will ask at once."""

    def __init__(self, credentials: Credentials, children: int, limits: Limits = LIMITS) -> None:
        self._credentials = credentials
        self._sandbox = Sandbox("worker.pixels.manifests:sign_in_child", children, limits)

    def __call__(self, result: bytes, upload: bytes, statement: Statement) -> tuple[bytes, ManifestAction]:
        if self._credentials.expired:
            raise SigningFailed("The certificate with which this service signs its results has expired.")
        arguments, action = statement.arguments(), _judged(upload, statement)
        try:
            if action != "kept":
                return self._signed([result], arguments)[0], action
            try:
                return self._signed([result, upload], arguments)
            except (LimitExceeded, ChildCrashed, FunctionFailed):  # the result can do without the upload's manifest
                return self._signed([result], arguments)[0], "unreadable"
        except SandboxError as error:
            raise SigningFailed("The result could not be signed, so it is not delivered.") from error

    def check(self) -> None:
        """Sign a picture of our own. Raises BadCredentials where C2PA's rules do not allow the certificates."""
        arguments = {
            "actions": [OPENED],
            "generator": generator(),
            "places": False,
            "result_type": "image/png",
            "upload_type": "image/png",
        }
        try:
            self._sandbox.wait_until_ready(START_S)
            self._signed([TRIAL], arguments, trial=True)
        except BadCredentials as error:
            raise BadCredentials(f"{CERTIFICATES}: C2PA does not sign with these certificates: {error}.") from None
        except SandboxError as error:
            raise BadCredentials(f"{CERTIFICATES}: c2pa-python does not work here: {error}.") from None

    def _signed(
        self, files: Sequence[bytes], arguments: dict[str, Any], trial: bool = False
    ) -> tuple[bytes, ManifestAction]:
        sent = arguments | {"algorithm": self._credentials.algorithm, "trial": trial}
        answer = self._sandbox.call([self._credentials.chain, self._credentials.key, *files], sent, WAIT_S)
        return answer.buffers[0], answer.value

    def close(self) -> None:
        self._sandbox.close()


def borders(extension: Extension) -> list[Box]:
    """The rectangles around the photo; those at the sides reach from its top to its bottom."""
    left, top, right, bottom = extension.photo
    width, height = extension.size
    sides = [(0, 0, width, top), (0, top, left, bottom), (right, top, width, bottom), (0, bottom, width, height)]
    return [box for box in sides if box[0] < box[2] and box[1] < box[3]]


def generator() -> dict[str, str]:
    """This program, as a claim names it."""
    name, _, version = tool().partition(" ")
    return {"name": name} | ({"version": version} if version else {})


def _judged(upload: bytes, statement: Statement) -> ManifestAction:
    """``kept``: the upload has a manifest, which the child may find to be anything else."""
    size = manifest_bytes(upload)
    if not size:
        return "none"
    if statement.parameters.metadata == "strip":
        return "dropped"
    return "too_large" if size > MANIFEST_BYTES else "kept"


def _rectangle(box: Box) -> dict[str, Any]:
    """A C2PA "region of interest"."""
    left, top, right, bottom = box
    origin, size = {"x": left, "y": top}, {"width": right - left, "height": bottom - top}
    return {"type": "spatial", "shape": {"type": "rectangle", "unit": "pixel", "origin": origin, **size}}
