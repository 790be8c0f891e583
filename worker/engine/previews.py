"""A task's previews: which step has one, and its way from latents on the engine's thread to a record for Redis."""

import base64
import io
import logging
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image

from jobs.previews import MAX_BYTES, PREVIEWS, Preview, due
from jobs.regions import Region

if TYPE_CHECKING:
    from worker.engine.task import Task

log = logging.getLogger("worker.engine.previews")

JPEG_QUALITY = 80


@dataclass
class Previews:
    """Of one task. ``wanted`` is set at step boundaries; everything here is called on the engine's thread."""

    wanted: bool = False
    made: int = 0  # how many of those that are due
    encoding: Future[Preview] | None = None

    def aim(self, task: "Task") -> None:
        """Have the next step keep its estimate if a preview is due after it."""
        if self.wanted and not self.encoding:
            task.states[0].wants_estimate = due(task.step + 1, task.steps) > self.made

    def take(self, task: "Task", codec: Executor) -> None:
        """Begin a preview if the step that was just taken has one. A failure costs the task its previews only."""
        state, count = task.states[0], due(task.step, task.steps)
        if state.estimate is None or count <= self.made:
            return
        self.made, state.wants_estimate = count, False
        try:
            pixels = task.family.preview(state)
            described = Preview(step=task.step, steps=task.steps, box=task.region.box, size=task.picture.size, image="")
            self.encoding = codec.submit(encode, pixels, task.region, described)
        except Exception:
            log.exception("no previews of job %s", task.job_id)
            self.made = PREVIEWS
        state.estimate = None

    def encoded(self) -> Preview | None:
        """The preview that has been encoded since the last call, if one has."""
        if not (self.encoding and self.encoding.done()):
            return None
        done, self.encoding = self.encoding, None
        if error := done.exception():
            log.error("a preview could not be encoded", exc_info=error)
            return None
        preview = done.result()
        return preview if len(preview.model_dump_json()) <= MAX_BYTES else None


def encode(pixels: torch.Tensor, region: Region, described: Preview) -> Preview:
    """Fetch the small canvas, (h, w, 3), uint8, from the device; its part that shows the picture goes into the record
    as a JPEG. For a codec thread.
    """
    buffer = io.BytesIO()
    _without_padding(Image.fromarray(pixels.cpu().numpy()), region).save(buffer, "JPEG", quality=JPEG_QUALITY)
    address = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return described.model_copy(update={"image": address})


def _without_padding(canvas: Image.Image, region: Region) -> Image.Image:
    """The part of a small canvas that the region's box takes up."""
    across, down = (small / large for small, large in zip(canvas.size, region.canvas, strict=True))
    left, top, right, bottom = region.inner
    box = (left * across, top * down, right * across, bottom * down)
    size = (max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1])))
    return canvas.resize(size, Image.Resampling.BOX, box)
