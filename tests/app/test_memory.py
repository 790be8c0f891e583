"""What decoding takes a pixel, and what uploads take while they wait for a decoder; of real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.memory import memory
from jobs.sandbox.process import SETTINGS
from tests.app.json_body import KIND, base64_of
from tests.app.pictures import box_mask, photo
from tests.app.processes import ROOT, ApiProcess, api_process, spooled_files, submitted
from tests.app.sockets import Caller, post
from tests.app.submissions import files
from tests.app.waiting import until
from tests.factories import encoded
from tests.png_files import with_chunks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measured through /proc")

BYTES_A_PIXEL = 4
SLACK = 0.15

DECODERS_OWN = {
    # the coefficients of a whole progressive JPEG: 2 bytes a sample
    "JPEG RGB, progressive": (4 + 6, 0),
    "JPEG CMYK, progressive": (4 + 8, 0),
    # OpenCV copies what libwebp has decoded; lossless, libwebp has 4 bytes a pixel of its own, with alpha 1
    "WEBP RGB": (3 + 3, 4),
    "WEBP RGB, lossless": (3 + 3, 4),
    "WEBP RGB, lossless, noise": (3 + 4, 3 + 4),
    "WEBP RGB, sideways": (3 + 3, 4),
    "WEBP RGBA": (3 + 3, 4),
    "WEBP RGBA, lossless": (3 + 3, 4),
    "WEBP RGBA, alpha": (4 + 4, 4 + 1),
    # dav1d's planes, what libavif makes of them for Pillow, and the picture
    "AVIF RGB": (4 + 5, 4 + 5),
    "AVIF RGB, sideways": (4 + 5, 4 + 5),
    "AVIF RGBA, alpha": (4 + 7.5, 4 + 7.5),
    "AVIF RGB, 10 bits": (4 + 6.5, 4 + 6.5),
    # a compressed strip is unpacked whole
    "TIFF LA, one strip": (4 + 2, 4 + 2),
    "TIFF RGB, one strip": (4 + 3, 4 + 3),
    "TIFF RGBA, one strip": (4 + 4, 4 + 4),
    "TIFF CMYK, one strip": (4 + 4, 4 + 4),
    # Pillow has no 16-bit colour: the upper and the lower bytes are decoded one after the other
    "PNG RGB, 16 bits": (4 + 4, 0),
    "PNG RGBA, 16 bits": (4 + 4, 0),
    "TIFF RGB, 16 bits, one strip": (4 + 4 + 6, 4 + 6),
}
"""Bytes a pixel as a mask and as an image, where a decoder needs more: ``docs/design/sandbox.md``."""


def test_a_pixel_takes_four_bytes_but_for_what_its_decoder_needs_of_its_own() -> None:
    environment = os.environ | SETTINGS | {"MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed is given back
    printed = subprocess.run(
        [sys.executable, "-m", "tests.app.peaks"], cwd=ROOT, env=environment, capture_output=True, check=True
    ).stdout
    found: dict[str, list[float]] = json.loads(printed)
    assert set(DECODERS_OWN) < set(found)
    too_much = {
        name: (taken, allowed)
        for name, taken in found.items()
        for allowed in [DECODERS_OWN.get(name, (BYTES_A_PIXEL, BYTES_A_PIXEL))]
        if any(one > limit + SLACK for one, limit in zip(taken, allowed, strict=False))
    }
    assert not too_much


UPLOAD_BYTES = 4_000_000
WAITING = 16


def test_uploads_that_wait_for_a_decoder_are_on_disk(redis_url: str, tmp_path: Path) -> None:
    large = with_chunks(encoded(photo()), (b"teSt", os.urandom(UPLOAD_BYTES)))
    with api_process(tmp_path, redis_url, decode_threads=1, decode_wait_s=60) as api, ExitStack() as stack:
        until(lambda: httpx.post(f"{api.url}/v1/inpaint", files=files(large)).status_code == 202)  # the child is up
        before = submitted(api)
        decoder = child_of(api)
        os.kill(decoder, signal.SIGSTOP)
        stack.enter_context(Caller(api)).send(post(files(large)))  # takes the decoder
        until(lambda: bytes_held(api) > UPLOAD_BYTES)
        taken = memory(api.process.pid, "VmRSS")
        for number in range(2, WAITING + 2):
            stack.enter_context(Caller(api)).send(post(files(large)))
            until(lambda number=number: bytes_held(api) > number * UPLOAD_BYTES)
        until(lambda: len(spooled_files(api)) > WAITING)
        held = []
        for _ in range(20):
            time.sleep(0.02)
            held.append(memory(api.process.pid, "VmRSS"))
        grown = max(held) - taken
        os.kill(decoder, signal.SIGCONT)
        until(lambda: submitted(api) == before + WAITING + 1)
    assert grown < WAITING * UPLOAD_BYTES / 4


LARGE_BYTES = 12_000_000
GROWN_BYTES = 4_000_000


def test_a_picture_in_json_takes_no_more_memory_than_in_a_form(redis_url: str, tmp_path: Path) -> None:
    large = with_chunks(encoded(photo()), (b"teSt", os.urandom(LARGE_BYTES)))
    body = json.dumps({"image": base64_of(large), "mask": base64_of(encoded(box_mask()))}).encode()
    sent: dict[str, dict[str, Any]] = {"form": {"files": files(large)}, "json": {"content": body, "headers": KIND}}
    peaks = dict.fromkeys(sent, 0)
    with api_process(tmp_path, redis_url, decode_threads=1) as api:
        for name, request in sent.items():
            for _ in range(2):  # the first one takes what is taken once
                Path(f"/proc/{api.process.pid}/clear_refs").write_text("5")
                assert httpx.post(f"{api.url}/v1/inpaint", timeout=60, **request).status_code == 202
                peaks[name] = memory(api.process.pid, "VmHWM")
        assert not spooled_files(api)
    assert peaks["json"] < peaks["form"] + GROWN_BYTES


def child_of(api: ApiProcess) -> int:
    """The process id of its only decoder."""
    pid = api.process.pid
    found = [
        int(children)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for children in (task / "children").read_text().split()
    ]
    assert len(found) == 1
    return found[0]


def bytes_held(api: ApiProcess) -> float:
    text = httpx.get(f"{api.url}/metrics").text
    return float((re.findall(r"^infill_upload_bytes (.*)$", text, re.MULTILINE) or ["0"])[0])
