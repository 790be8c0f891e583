"""What img2img answers with: images in base64, one after the other, and what is known of them."""

import base64
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import anyio.to_thread
from fastapi import Response
from fastapi.responses import StreamingResponse
from PIL import Image

from app.backend import Backend
from app.dialects.a1111.fields import Translated
from app.dialects.a1111.infotext import infotext, with_infotext
from app.reencoding import encoded_anew
from app.uploads import Size
from jobs.errors import ResultExpired
from jobs.job_view import JobView

PART_BYTES = 3 * 2**18
"""Of an image at a time; a multiple of 3, so that the parts in base64 can be joined."""
FAST = 1
"""Compression of a PNG that is made anew."""


@dataclass(frozen=True)
class Results:
    """A job's images as the web UI sends them. ``size``: that they are stretched to; None for the photo's own."""

    backend: Backend
    asked: Translated
    view: JobView
    size: Size | None

    ALWAYS: ClassVar[dict[str, Any]] = {
        "subseed": -1,
        "subseed_strength": 0,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_hash": None,
        "sd_vae_name": None,
        "sd_vae_hash": None,
        "index_of_first_image": 0,
        "styles": [],
        "clip_skip": 1,
        "version": "Infill",
    }
    """Of ``info``: what has one value here."""

    async def response(self) -> Response:
        """One image is held at a time. Raises ResultExpired, DecodersBusy."""
        headers = {"Infill-Job": self.view.id, "Infill-Model": self.view.model}
        first = await self._image(0) if self.asked.fields.send_images else None
        return StreamingResponse(self._parts(first), media_type="application/json", headers=headers)

    async def _parts(self, image: bytes | None) -> AsyncIterator[bytes]:
        """``image``: the first one, which was fetched before the answer began; None for an answer without images."""
        yield b'{"images": ['
        if image is not None:
            for index in range(len(self.view.images)):
                yield b', "' if index else b'"'
                png = memoryview(await self._image(index) if index else image)
                for at in range(0, len(png), PART_BYTES):
                    yield base64.b64encode(png[at : at + PART_BYTES])
                yield b'"'
        rest = {"parameters": self._parameters(), "info": json.dumps(self._info())}
        yield b"], " + json.dumps(rest)[1:].encode()  # in ASCII: texts may hold what is no Unicode

    async def _image(self, index: int) -> bytes:
        png = await anyio.to_thread.run_sync(self.backend.queue.store.result, self.view.id, index)
        if png is None:
            raise ResultExpired("The result has expired.")
        if self.size:
            async with self.backend.decoders.turn(self._patience_s):
                png = await anyio.to_thread.run_sync(_stretched, png, self.size)
        return with_infotext(png, self._texts[index])

    @property
    def _patience_s(self) -> float:
        """For a decoder: longer than usual, as the job is done already."""
        return max(self.backend.settings.decode_wait_s, self.backend.settings.max_wait_s)

    @cached_property
    def _texts(self) -> list[str]:
        return [infotext(self.asked, self.view, index, self._size) for index in range(len(self.view.images))]

    @property
    def _size(self) -> Size:
        return self.size or (self.view.images[0].width, self.view.images[0].height)

    def _parameters(self) -> dict[str, Any]:
        """The request, its defaults filled in, without its pictures."""
        settings = {"sd_model_checkpoint": self.asked.model}
        return self.asked.fields.model_dump() | {"init_images": None, "mask": None, "override_settings": settings}

    def _info(self) -> dict[str, Any]:
        fields, view = self.asked.fields, self.view
        width, height = self._size
        count = len(view.images)
        return self.ALWAYS | {
            "prompt": fields.prompt,
            "all_prompts": [fields.prompt] * count,
            "negative_prompt": fields.negative_prompt,
            "all_negative_prompts": [fields.negative_prompt] * count,
            "seed": view.seeds[0],
            "all_seeds": view.seeds,
            "all_subseeds": [-1] * count,
            "width": width,
            "height": height,
            "sampler_name": self.asked.sampler,
            "cfg_scale": self.asked.request.guidance_scale,
            "steps": fields.steps,
            "batch_size": fields.batch_size,
            "sd_model_name": view.model,
            "denoising_strength": fields.denoising_strength,
            "extra_generation_params": dict(self.asked.notes) | self._exactness(),
            "infotexts": self._texts,
            "job_timestamp": f"{view.created_at:%Y%m%d%H%M%S}",
            "is_using_inpainting_conditioning": True,
        }

    def _exactness(self) -> dict[str, str]:
        if self.size:
            image = self.view.images[0]
            return {"Resized": f"{image.width}x{image.height} to {self.size[0]}x{self.size[1]}"}
        return {"Changed outside mask": str(self.view.mask.changed_outside_mask)}


def _stretched(png: bytes, size: Size) -> bytes:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return encoded_anew(image.resize(size, Image.Resampling.LANCZOS), image, "PNG", compress_level=FAST)
