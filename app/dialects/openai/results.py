"""What OpenAI's clients receive of a job that has succeeded: its images as ``ImagesResponse``, and headers."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image

from app.backend import Backend
from app.dialects.openai.edit import Edit
from app.problems import error_classes
from app.reencoding import encoded_anew
from app.uploads import Size
from jobs.errors import JobFailure, ResultExpired, StillRunning
from jobs.job_view import JobView
from jobs.schema import JobStatus

LISTED_NAMES, LISTED_CHARACTERS = 20, 50


class Resized(NamedTuple):
    """Sizes of the image, and of the results that were asked for."""

    image: Size
    wanted: Size


@dataclass(frozen=True)
class Results:
    """A job's images in the form that a client has asked for.

    Args:
        is_made_so: whether the job itself makes them of that size and in that format; else it makes PNGs.
    """

    backend: Backend
    view: JobView
    edit: Edit
    resized: Resized | None
    quality: int
    is_made_so: bool
    origin: str

    @property
    def size(self) -> Size | None:
        return self.resized and self.resized.wanted

    @property
    def headers(self) -> dict[str, str]:
        """What is known of the job; of one that goes on, not what was changed outside the mask."""
        view = self.view
        found = {"Infill-Job": view.id, "Infill-Seed": str(view.seeds[0]), "Infill-Mask-Mode": view.mask.mode}
        if self.resized:
            found["Infill-Resized"] = " to ".join(f"{width}x{height}" for width, height in self.resized)
        elif view.status.ended and self.is_made_so and "lossy_format" not in view.approximate:
            found["Infill-Changed-Outside-Mask"] = str(view.mask.changed_outside_mask)
        found["Infill-Model"] = view.model
        unaddressed = {"response_format"} if self.edit.wants_addresses and not self.is_made_so else set()
        if ignored := self.edit.ignored | unaddressed:
            found["Infill-Ignored"] = listed(sorted(ignored))
        return found

    def body(self) -> dict[str, Any]:
        """``ImagesResponse``. Raises ResultExpired."""
        width, height = self.size or (self.view.images[0].width, self.view.images[0].height)
        if self.edit.wants_addresses and self.is_made_so:
            data = [{"url": self.origin + image.url} for image in self.view.images]
        else:
            data = [{"b64_json": base64.b64encode(self._encoded(k)).decode()} for k in range(len(self.view.images))]
        return {
            "created": int(self.view.created_at.timestamp()),
            "background": "opaque",
            "output_format": self.edit.kind,
            "quality": "auto",
            "size": f"{width}x{height}",
            "data": [{"revised_prompt": None, "b64_json": None, "url": None} | image for image in data],
            "usage": USAGE,
        }

    def _encoded(self, index: int) -> bytes:
        made = self.backend.queue.store.result(self.view.id, index)
        if made is None:
            raise ResultExpired("The result has expired.")
        if self.is_made_so:
            return made
        with Image.open(io.BytesIO(made), formats=["PNG"]) as image:
            changed = image.resize(self.size, Image.Resampling.LANCZOS) if self.size else image
            if self.edit.kind == "jpeg" and changed.mode not in ("L", "RGB"):
                changed = changed.convert("RGB")
            return encoded_anew(changed, image, self.edit.kind, quality=self.quality)


USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}


def listed(names: Sequence[str]) -> str:
    """Names of fields for a header, which holds no other characters and only so many: the first ones, and a count."""
    shown = [quote(name[:LISTED_CHARACTERS], safe="[]") for name in names[:LISTED_NAMES]]
    return ", ".join(shown) + (f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else "")


def ended(view: JobView) -> JobView:
    """The job, if it has succeeded. Raises StillRunning, and the failure of one that has failed."""
    if not view.status.ended:
        raise StillRunning(f"The job is {view.status.value} and goes on; see {view.url}.")
    if view.status is JobStatus.FAILED and view.error:
        raise error_classes().get(view.error.code, JobFailure)(view.error.message)
    if view.status is JobStatus.CANCELED:
        raise JobFailure("The job was canceled.")
    return view
