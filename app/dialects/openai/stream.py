"""The stream of an edit: partial images as the job forms, then the completed ones, or the error that ended it.

Comments keep proxies from cutting it. A caller who leaves cancels the job, as one who waits for the whole answer does.
"""

import base64
import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from PIL import Image
from redis.exceptions import RedisError

from app.dialects.openai.results import Results, ended
from app.follow import watch
from app.previews import watch_with_previews
from app.problems import problem_response, translate
from app.submission import cancel_as_left
from jobs.errors import InfillError
from jobs.previews import Preview

FRAME_PX = 512
"""Longest side of a partial image."""

UNBUFFERED = {"X-Accel-Buffering": "no"}
"""For nginx, as FastAPI's own streams have it."""


@dataclass(frozen=True)
class EditStream:
    """The answer to an edit whose job is in the queue.

    Args:
        results: of the job as it is now.
        partial_images: how many to send at most, evenly spaced over the job's steps.
    """

    request: Request
    results: Results
    partial_images: int

    def response(self) -> StreamingResponse:
        headers = self.results.headers | UNBUFFERED
        return StreamingResponse(self._until_left(), media_type="text/event-stream", headers=headers)

    async def _until_left(self) -> AsyncIterator[bytes]:
        over = False
        try:
            async for event in self._events():
                yield event
            over = True
        except (InfillError, RedisError) as error:
            over = True
            known = error if isinstance(error, InfillError) else translate(error)
            yield format_sse_event(event="error", data_str=bytes(problem_response(self.request, known).body).decode())
        finally:
            if not over:
                with anyio.CancelScope(shield=True):
                    await cancel_as_left(self.results.backend, self.results.view.id)

    async def _events(self) -> AsyncIterator[bytes]:
        backend, view, sent = self.results.backend, self.results.view, 0
        count = self.partial_images
        async for found in watch_with_previews(backend, view.id, count) if count else watch(backend, view.id):
            if isinstance(found, Preview):
                if sent < count:
                    yield await anyio.to_thread.run_sync(_partial, found, sent)
                    sent += 1
            elif found is None:
                yield KEEPALIVE_COMMENT
            else:
                view = found.view
        body = await anyio.to_thread.run_sync(replace(self.results, view=ended(view)).body)
        for image in body["data"]:
            yield _event("completed", image["b64_json"], body)


def _event(kind: str, b64_json: str, described: dict[str, Any]) -> bytes:
    shared = {name: described[name] for name in described if name not in ("created", "data")}
    name = f"image_edit.{kind}"
    event = {"type": name, "b64_json": b64_json, "created_at": int(time.time())} | shared
    return format_sse_event(event=name, data_str=json.dumps(event))


def _partial(preview: Preview, index: int) -> bytes:
    image = framed(preview)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    described = {
        "partial_image_index": index,
        "size": f"{image.width}x{image.height}",
        "quality": "auto",
        "background": "transparent" if image.mode == "RGBA" else "opaque",
        "output_format": "png",
    }
    return _event("partial_image", base64.b64encode(buffer.getvalue()).decode(), described)


def framed(preview: Preview) -> Image.Image:
    """A preview in a picture of the whole one's shape, ``FRAME_PX`` at most: transparent where nothing is run."""
    with Image.open(io.BytesIO(base64.b64decode(preview.image.partition(",")[2])), formats=["JPEG"]) as shown:
        left, top, right, bottom = preview.box
        scale = min(shown.width / (right - left), FRAME_PX / max(preview.size))
        frame = Image.new("RGBA", (_scaled(preview.size[0], scale), _scaled(preview.size[1], scale)))
        size = (_scaled(right - left, scale), _scaled(bottom - top, scale))
        if size == frame.size:
            return shown.resize(size)
        frame.paste(shown.resize(size), (round(left * scale), round(top * scale)))
    return frame


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))
