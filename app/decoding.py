"""Uploads are decoded in child processes (``jobs/sandbox``), where what hostile bytes can cost is bounded.

``decode`` runs there; the API itself sees sizes, reports and the mask as the worker takes it.
"""

from collections.abc import Sequence
from typing import Any, cast

import anyio
import anyio.to_thread

from app.masks import SettledMask, settle_mask
from app.settings import ApiSettings
from app.uploads import Size, check_image, unreadable
from jobs.errors import DecodersBusy
from jobs.sandbox.errors import Busy, Limits, SandboxError
from jobs.sandbox.pool import Sandbox
from jobs.schema import MaskMode, MaskReport, MaskScale

MEMORY_BYTES_PER_PX = 16
MEMORY_BYTES = 256 * 2**20
"""Address space of a decoder beside its pixels."""


def decode(buffers: Sequence[memoryview], arguments: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """In the child: check the image, or read the mask. Raises RequestError."""
    data, max_pixels = bytes(buffers[0]), arguments["max_pixels"]
    if arguments["what"] == "image":
        return {"size": check_image(data, max_pixels)}, []
    mask = settle_mask(data, arguments["mode"], tuple(arguments["size"]), max_pixels, arguments["scale"])
    found = {"report": mask.report.model_dump(mode="json"), "leaves_known": mask.leaves_known}
    return found, [] if mask.png is data else [mask.png]


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

    async def image(self, data: bytes) -> Size:
        """Width and height of the upright image. Raises InvalidImage, TooLarge, DecodersBusy."""
        found, _ = await self._call(data, {"what": "image"})
        width, height = found["size"]
        return width, height

    async def mask(self, data: bytes, mode: MaskMode, scale: MaskScale, size: Size) -> SettledMask:
        """Raises InvalidMask, MaskSizeMismatch, EmptyMask, DoubtfulMask, TooLarge, DecodersBusy."""
        found, made = await self._call(data, {"what": "mask", "mode": mode, "scale": scale, "size": size})
        return SettledMask(made[0] if made else data, MaskReport.model_validate(found["report"]), found["leaves_known"])

    async def _call(self, data: bytes, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        assert self._sandbox is not None, "the decoders were not started"
        arguments = {**arguments, "max_pixels": self._settings.max_pixels}
        wait_s = self._settings.decode_wait_s
        try:
            with anyio.fail_after(wait_s):
                await self._free.acquire()
        except TimeoutError:
            raise DecodersBusy(f"No decoder was free within {wait_s:g} s.") from None
        try:
            answer = await anyio.to_thread.run_sync(self._sandbox.call, [data], arguments, wait_s)
        except Busy:
            raise DecodersBusy("The decoders are being started.") from None
        except SandboxError:
            what = arguments["what"]
            raise unreadable(what)(
                f"{what}: the file cannot be decoded with the time and memory that are allowed."
            ) from None
        finally:
            self._free.release()
        return cast("dict[str, Any]", answer.value), answer.buffers
