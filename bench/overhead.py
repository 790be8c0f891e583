"""What a request costs beside the network and the VAE: ``python -m bench.overhead``.

Starts the real service (Redis, API, one worker), sends one request after another and sets the caller's wall time
against the job's own account of it. Overhead is everything but ``text_encode``, ``vae_encode``, ``denoise`` and
``vae_decode``: upload, checks, queue, decoding, paste, PNG, store, and the answer on its way back. The worker keeps no
encodings meanwhile: each request stands for a new photo.

``--photos 1024x1024 6000x4000`` instead sets photos beside each other, in turns: JPEGs with the same small mask, so
that the networks have the same to do. What a larger one costs more is shown with decoding and PNG apart, which every
pixel has to go through.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.record import Record, keep_option
from bench.running import running_service

MODEL_PHASES = ("text_encode", "vae_encode", "denoise", "vae_decode")
NOT_PHASES = ("total", "steps", "step_p50", "batch_mean")
HTTP = "http (upload, checks, answer, download)"
EVERY_PIXEL = ("decode", "png")
"""Phases that go through the whole picture by their nature."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Edit:
    """A photo and its mask, as files."""

    label: str
    photo: bytes
    mask: bytes


@dataclass(frozen=True)
class Answer:
    """``wall`` is the caller's time in ms, ``account`` the job's timings."""

    wall: float
    account: dict[str, float]

    def parts(self) -> dict[str, float]:
        """Stretches of time that add up to the wall time, in ms."""
        phases = {phase: spent for phase, spent in self.account.items() if phase not in NOT_PHASES}
        return phases | {HTTP: self.wall - self.account["total"]}


def photo_and_mask(size_px: int) -> tuple[bytes, bytes]:
    """A smooth picture with some grain (a PNG of a usual size) and a box mask over a sixth of it."""
    box = (size_px // 4, size_px // 4, size_px * 3 // 4, size_px * 3 // 5)
    return _file(_photo(size_px, size_px), "PNG"), _file(_mask(size_px, size_px, box), "PNG")


def jpeg_edit(size: tuple[int, int], box: Box) -> Edit:
    """A photo of this width and height as a camera writes it, and a mask over ``box``."""
    width, height = size
    photo = _file(_photo(width, height), "JPEG", quality=91)
    return Edit(f"{width}x{height}", photo, _file(_mask(width, height, box), "PNG"))


def _photo(width: int, height: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(4, 252, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).clip(4, 251)
    grain: NDArray[np.uint8] = rng.integers(0, 9, smooth.shape, np.uint8)
    return smooth + grain - np.uint8(4)


def _mask(width: int, height: int, box: Box) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    left, top, right, bottom = box
    mask[top:bottom, left:right] = 255
    return mask


def _file(pixels: NDArray[np.uint8], kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def measure(url: str, edits: Sequence[Edit], requests: int, steps: int) -> list[list[Answer]]:
    """The answers to each edit, asked for in turns; the first turn is a warm-up and not counted."""
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
        turns = [[ask(client, edit, seed, steps) for edit in edits] for seed in range(requests + 1)]
    return [list(answers) for answers in zip(*turns[1:], strict=True)]


def ask(client: httpx.Client, edit: Edit, seed: int, steps: int) -> Answer:
    began = time.perf_counter()
    answer = client.post(
        "/v1/inpaint",
        files={"image": edit.photo, "mask": edit.mask},
        data={"seed": str(seed), "num_inference_steps": str(steps)},
        headers={"Prefer": "wait=60"},
    )
    job = answer.raise_for_status().json()
    image = client.get(job["images"][0]["url"]).raise_for_status().content
    wall = (time.perf_counter() - began) * 1000
    assert job["mask"]["changed_outside_mask"] == 0 and image[:4] == b"\x89PNG"
    return Answer(wall, job["timings"])


def quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share))


def report(answers: list[Answer]) -> Record:
    """Where the time of one edit went."""
    model = [sum(answer.account[phase] for phase in MODEL_PHASES) for answer in answers]
    overhead = [answer.wall - spent for answer, spent in zip(answers, model, strict=True)]
    shares = [cost / answer.wall for answer, cost in zip(answers, overhead, strict=True)]
    rows = [(part, [answer.parts()[part] for answer in answers]) for part in answers[0].parts()]
    rows += [("network and VAE", model), ("overhead", overhead)]
    cells = [[name, f"{quantile(values, 0.5):.1f}", f"{quantile(values, 0.95):.1f}"] for name, values in rows]
    share = f"{100 * quantile(shares, 0.5):.1f} % of the request (p50), {100 * quantile(shares, 0.95):.1f} % (p95)"
    return Record(["", "p50 ms", "p95 ms"], cells, [f"Overhead is {share}."])


def comparison(labels: Sequence[str], answers: Sequence[list[Answer]]) -> Record:
    """Medians of the same edit in several photos, and how many times the first one's cost the others have."""
    rows = [
        (part, [statistics.median(answer.parts()[part] for answer in side) for side in answers])
        for part in answers[0][0].parts()
    ]
    rows.append(("the edit, decode and PNG apart", [statistics.median(map(edit_ms, side)) for side in answers]))
    first, *others = rows[-1][1]
    ratios = [f"{label} costs {value / first:.2f}x" for label, value in zip(labels[1:], others, strict=True)]
    cells = [[name, *(f"{value:.1f}" for value in values)] for name, values in rows]
    notes = [f"Decode and PNG apart, {', '.join(ratios)} the edit of {labels[0]}."] if others else []
    return Record(["p50 ms", *labels], cells, notes)


def edit_ms(answer: Answer) -> float:
    """From the queue to the stored result, but for decoding the photo and writing the PNG."""
    return answer.account["total"] - sum(answer.account[phase] for phase in EVERY_PIXEL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__, parents=[keep_option()])
    parser.add_argument("--size", type=int, default=512, help="side of the photo in pixels")
    parser.add_argument("--photos", nargs="+", type=_size, help="sizes to be set beside each other, as 6000x4000")
    parser.add_argument("--mask-box", nargs=4, type=int, default=(64, 64, 160, 160), help="left top right bottom")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    chosen = parser.parse_args()
    os.environ["INFILL_ENCODING_BUDGET_BYTES"] = "0"
    edits = [jpeg_edit(size, chosen.mask_box) for size in chosen.photos or ()]
    edits = edits or [Edit(f"{chosen.size}x{chosen.size}", *photo_and_mask(chosen.size))]
    with running_service() as url:
        answers = measure(url, edits, chosen.requests, chosen.steps)
    labels = [edit.label for edit in edits]
    record = comparison(labels, answers) if chosen.photos else report(answers[0])
    record.notes.append(f"{chosen.requests} requests one after another, {', '.join(labels)} px, {chosen.steps} steps.")
    record.finish(chosen.keep)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


if __name__ == "__main__":
    main()
