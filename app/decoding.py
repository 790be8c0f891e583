"""Uploads are decoded in child processes (``jobs/sandbox``), where what hostile bytes can cost is bounded.

``decode`` runs there; the API itself sees sizes, reports and the mask as the worker takes it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, cast

import anyio
import anyio.to_thread
import numpy as np

from app.mask_shapes import NO_SHAPES, Shapes
from app.masks import DecodedMask, border_mask, decode_mask, drawn_mask
from app.selections import Selection
from app.settings import ApiSettings
from app.subject_masks import LEAST_SCORE, find_mask
from app.uploads import Photo, Size, check_image, unreadable
from jobs.errors import DecodersBusy, DoubtfulSubject
from jobs.sandbox.errors import Busy, Limits, SandboxError
from jobs.sandbox.pool import Sandbox
from jobs.schema import Extension, MaskMode, MaskReport, MaskScale

MEMORY_BYTES_PER_PX = 12
MEMORY_BYTES = 256 * 2**20
"""Address space of a decoder beside its pixels."""
ADVICE = "Send mask_box around it, points on it and beside it (mask_points), or a mask."


def decode(buffers: Sequence[memoryview], arguments: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """In the child: check the image, read or make the mask, or find a subject. Raises RequestError."""
    data, max_pixels = bytes(buffers[0]) if buffers else b"", arguments["max_pixels"]
    if arguments["what"] == "image":
        return check_image(data, max_pixels)._asdict(), []
    if arguments["what"] == "subject":
        found, score = find_mask(data, Selection(**arguments["selection"]), max_pixels)
        return {"score": score} | (_told(found) if found else {}), [found.png] if found else []
    if "extension" in arguments:
        mask = border_mask(Extension.model_validate(arguments["extension"]))
        return _told(mask), [mask.png]
    shapes = Shapes(arguments["boxes"], arguments["polygons"])
    size, asked = tuple(arguments["size"]), (arguments["scale"], arguments["threshold"], shapes)
    mask = decode_mask(data, arguments["mode"], size, max_pixels, *asked) if buffers else drawn_mask(shapes, size)
    return _told(mask), [] if mask.png is data else [mask.png]


def _told(mask: DecodedMask) -> dict[str, Any]:
    report, (rows, columns) = mask.report.model_dump(mode="json"), mask.cells.shape
    cells = {"rows": rows, "columns": columns, "bits": np.packbits(mask.cells).tobytes().hex()}
    return {"report": report, "leaves_known": mask.leaves_known, "cells": cells}


def sandbox_for(settings: ApiSettings) -> Sandbox:
    """Start the API's decoding processes."""
    limits = Limits(
        cpu_s=settings.decode_cpu_s,
        wall_s=10 * settings.decode_cpu_s,  # the machine may be busy with other things
        memory_bytes=MEMORY_BYTES + MEMORY_BYTES_PER_PX * settings.max_pixels,
        input_bytes=max(settings.max_image_bytes, settings.max_mask_bytes),
        output_bytes=settings.max_mask_bytes + 2 * settings.max_pixels,
    )
    return Sandbox("app.decoding:decode", settings.decode_threads, limits)


class Decoders:
    """The API's decoders. Callers wait for one without holding a thread, for a bounded time.

    Args:
        settings: limits of files and waits.
        sandbox: a running one to use; without it, ``start`` makes one and ``close`` ends it.
    """

    def __init__(self, settings: ApiSettings, sandbox: Sandbox | None = None) -> None:
        self._settings = settings
        self._free = anyio.CapacityLimiter(settings.decode_threads)
        self._sandbox, self._is_ours = sandbox, sandbox is None

    def start(self) -> None:
        if self._sandbox is None:
            self._sandbox = sandbox_for(self._settings)

    def close(self) -> None:
        if self._sandbox and self._is_ours:
            self._sandbox.close()

    @asynccontextmanager
    async def turn(self, wait_s: float | None = None) -> AsyncIterator[None]:
        """Wait until one of the decoders is free and keep it. ``wait_s``: not as long as usual. Raises DecodersBusy.

        Whoever waits should hold no upload in memory: read it inside, so that no more are held than there are decoders.
        """
        wait_s = self._settings.decode_wait_s if wait_s is None else wait_s
        try:
            with anyio.fail_after(wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise DecodersBusy(f"No decoder was free within {wait_s:g} s.") from None
        try:
            yield
        finally:
            self._free.release()

    async def image(self, data: bytes) -> Photo:
        """The upright image's size and more, within a ``turn``. Raises InvalidImage, TooLarge, DecodersBusy."""
        found, _ = await self._call(data, {"what": "image"})
        width, height = found.pop("size")
        return Photo((width, height), **found)

    async def mask(
        self,
        data: bytes | None,
        mode: MaskMode,
        scale: MaskScale,
        size: Size,
        threshold: float | None = None,
        shapes: Shapes = NO_SHAPES,
    ) -> DecodedMask:
        """Within a ``turn``. Without ``data``, the mask is what the shapes cover.

        Raises InvalidMask, MaskSizeMismatch, EmptyMask, DoubtfulMask, InvalidField, TooLarge, DecodersBusy.
        """
        how = {"mode": mode, "scale": scale, "size": size, "threshold": threshold}
        arguments = {"what": "mask", "boxes": shapes.boxes, "polygons": shapes.polygons, **how}
        return await self._mask(data, arguments)

    async def border(self, extension: Extension) -> DecodedMask:
        """The mask of what an extension adds to a photo, within a ``turn``. Raises DecodersBusy, InvalidMask."""
        return await self._mask(None, {"what": "mask", "extension": extension.model_dump()})

    async def _mask(self, data: bytes | None, arguments: dict[str, Any]) -> DecodedMask:
        found, made = await self._call(data, arguments)
        png = made[0] if made else data
        assert png is not None, "a mask that was drawn is a new one"
        return _decoded(png, found)

    async def subject(self, data: bytes, selection: Selection) -> DecodedMask:
        """The mask that a selection is in a photo; within a ``turn``, and a place of ``SelectionPlaces``.

        Raises DoubtfulSubject, InvalidField, InvalidImage, TooLarge, DecodersBusy.
        """
        found, made = await self._call(data, {"what": "subject", "selection": asdict(selection)})
        if not made:
            raise DoubtfulSubject(
                f"image: what was found has a score of {found['score']:g}, and {LEAST_SCORE:g} is needed: the subject "
                f"cannot be told from what surrounds it. {ADVICE}",
                found["score"],
            )
        return _decoded(made[0], found)

    async def _call(self, data: bytes | None, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        assert self._sandbox is not None, "the decoders were not started"
        arguments = {**arguments, "max_pixels": self._settings.max_pixels}
        try:
            buffers = [] if data is None else [data]
            answer = await anyio.to_thread.run_sync(
                self._sandbox.call, buffers, arguments, self._settings.decode_wait_s
            )
        except Busy:
            raise DecodersBusy("The decoders are being started.") from None
        except SandboxError:
            what = arguments["what"]
            if what == "subject":
                raise DoubtfulSubject(
                    f"image: no subject was found in the time and memory that are allowed. {ADVICE}"
                ) from None
            raise unreadable(what)(
                f"{what}: the file cannot be decoded with the time and memory that are allowed."
            ) from None
        return cast("dict[str, Any]", answer.value), answer.buffers


def _decoded(png: bytes, found: dict[str, Any]) -> DecodedMask:
    cells = found["cells"]
    rows, columns, bits = cells["rows"], cells["columns"], np.frombuffer(bytes.fromhex(cells["bits"]), np.uint8)
    unpacked = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
    return DecodedMask(png, MaskReport.model_validate(found["report"]), found["leaves_known"], unpacked)
