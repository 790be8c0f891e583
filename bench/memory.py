"""Memory of the API: the most it has while uploads arrive at once. ``python -m bench.memory``.

Redis and the API run, no worker; the API is a new process for each cell. The figure is the peak of its resident memory,
its own children's added, less what it had before. Spooled uploads are in the temporary folder and not in it.
"""

import argparse
import asyncio
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from PIL import Image, ImageDraw

from bench.record import Record, keep_option
from bench.running import running_apis
from jobs.connection import connect_api

MB = 1e6
SIZE = (6000, 6600)
"""39.6 of the 40 megapixels that are allowed."""
COLUMNS = ("upload", "MB", "megapixels", "bytes a pixel beside it")


@dataclass(frozen=True)
class Upload:
    """``pixels``: of photo and mask each; 0 where they are no pictures."""

    name: str
    image: bytes
    mask: bytes
    pixels: int

    @property
    def size_bytes(self) -> int:
        return len(self.image) + len(self.mask)


@dataclass(frozen=True)
class Peak:
    """What one API process took for some uploads at once; ``answers``: status, or a problem's code -> how many."""

    taken_bytes: int
    answers: Counter[str]

    def text(self) -> str:
        answers = ", ".join(f"{count} x {answer}" for answer, count in sorted(self.answers.items()))
        return f"{self.taken_bytes / MB:.0f} MB ({answers})"


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(size: tuple[int, int]) -> Image.Image:
    """Soft noise: it compresses as a photo does."""
    noise = np.random.default_rng(1).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def spot(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse((size[0] // 3, size[1] // 3, size[0] // 2, size[1] // 2), fill=255)
    return mask


WARM_UP = Upload("", encoded(photo((64, 64)), "PNG"), encoded(spot((64, 64)), "PNG"), 0)
"""Has the process import what it decodes with."""


def uploads() -> dict[str, Callable[[], Upload]]:
    """Photos as people send them, and what costs most for its bytes."""

    def of(name: str, size: tuple[int, int], image: bytes, mask: bytes) -> Upload:
        return Upload(name, image, mask, size[0] * size[1])

    def flat() -> Upload:
        white = encoded(Image.new("RGB", SIZE, "white"), "WEBP", lossless=True)
        return of("flat WebP as photo and mask", SIZE, white, white)

    phone = (4032, 3024)
    return {
        "phone": lambda: of("photo of a phone", phone, encoded(photo(phone), "JPEG"), encoded(spot(phone), "PNG")),
        "jpeg": lambda: of("large JPEG", SIZE, encoded(photo(SIZE), "JPEG"), encoded(spot(SIZE), "PNG")),
        "rgba": lambda: of(
            "RGBA mask",
            SIZE,
            encoded(photo(SIZE), "JPEG"),
            encoded(spot(SIZE).convert("RGBA"), "PNG", compress_level=1),
        ),
        "wide": lambda: of(
            "16-bit mask",
            SIZE,
            encoded(photo(SIZE), "JPEG"),
            encoded(Image.fromarray(np.asarray(spot(SIZE)).astype(np.uint16) * 257), "PNG", compress_level=1),
        ),
        "flat": flat,
        "bytes": lambda: Upload("64 MiB of no picture", os.urandom(2**25), os.urandom(2**25), 0),
    }


async def post(url: str, upload: Upload, count: int) -> Counter[str]:
    files = {"image": ("photo", upload.image), "mask": ("mask", upload.mask)}
    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
        answers = await asyncio.gather(*(client.post(f"{url}/v1/inpaint", files=files) for _ in range(count)))
    return Counter(answer.json().get("code", str(answer.status_code)) for answer in answers)


def measure(upload: Upload, count: int) -> Peak:
    with running_apis(min(os.sched_getaffinity(0))) as (redis_url, (api,)):
        url, pid = api.url, api.pid
        asyncio.run(post(url, WARM_UP, 1))
        before = memory(pid, "VmRSS")
        answers = asyncio.run(post(url, upload, count))
        taken = memory(pid, "VmHWM") - before
        with connect_api(redis_url) as connection:
            connection.flushdb()
    return Peak(taken, answers)


def memory(pid: int, field: str) -> int:
    """Bytes of a process and its children, by a field of ``/proc/<pid>/status``."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:  # it has ended
            continue
        if str(pid) in (status.parent.name, *re.findall(r"^PPid:\s*(\d+)", text, re.MULTILINE)):
            total += sum(int(found) * 1024 for found in re.findall(rf"^{field}:\s*(\d+) kB", text, re.MULTILINE))
    return total


def row(upload: Upload, cells: Sequence[Peak]) -> list[str]:
    """The first cell, less the upload, gives the bytes a pixel."""
    beside = cells[0].taken_bytes - upload.size_bytes * sum(cells[0].answers.values())
    a_pixel = f"{beside / upload.pixels:.1f}" if upload.pixels else "-"
    figures = [f"{upload.size_bytes / MB:.1f}", f"{upload.pixels / MB:.1f}", a_pixel]
    return [upload.name, *figures, *(cell.text() for cell in cells)]


def main() -> None:
    makers = uploads()
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__, parents=[keep_option()])
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--uploads", choices=makers, nargs="+", default=list(makers))
    chosen = parser.parse_args()
    record = Record([*COLUMNS, *(f"x{count}" for count in chosen.at_once)])
    for name in chosen.uploads:
        upload = makers[name]()
        record.add(*row(upload, [measure(upload, count) for count in chosen.at_once]))
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
