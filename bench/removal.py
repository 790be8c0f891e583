"""Removal: things that this program pasted into photos, so that what was there is known; and plain grounds.

`python -m bench.removal` prints two figures a method. On the development photos, the distance of the hole to what was
there: PSNR (dB) and VGG-HED. On plain grounds (flat, sloping, grained), how often something new appears: how many
grounds have a place in the hole whose mean over 5 px is more than ``NEW`` levels off. `--catalog FILE --model NAME`
adds a model of that catalog, with its recipe for removals.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from bench.quality import PHOTOS, Fill, Hole, MaskedPhoto, Metric, Pixels, contact_sheet, load_cases, psnr, telea
from bench.record import Record, keep_option
from bench.worker_fill import worker_fill
from worker.pixels.fill.texture import fill

NEW = 12
"""Levels of 255 by which a place of a plain ground differs where something is to be seen."""
SIZE_PX = 256
GROUNDS = 24


@dataclass(frozen=True)
class Removal:
    """A picture with a thing in it, the hole drawn around the thing, and the picture without it."""

    name: str
    image: Pixels
    hole: Hole
    truth: Pixels


def pasted(truth: Pixels, thing: Pixels, seed: int, name: str) -> Removal:
    """A round piece of ``thing`` in ``truth``; the hole is a little larger, as a hand draws it."""
    random = np.random.default_rng(seed)
    axes = (int(random.integers(20, 44)), int(random.integers(20, 44)))
    centre = tuple(int(random.integers(60, SIZE_PX - 60)) for _ in range(2))
    disc, hole = (
        cv2.ellipse(np.zeros((SIZE_PX, SIZE_PX), np.uint8), centre, (axes[0] + px, axes[1] + px), 0, 0, 360, 255, -1)
        for px in (0, 4)
    )
    return Removal(name, np.where(disc[..., None] > 0, thing, truth).astype(np.uint8), np.asarray(hole > 0), truth)


def from_photos(cases: Sequence[MaskedPhoto]) -> list[Removal]:
    things = [*cases[1:], cases[0]]
    return [
        pasted(case.image, thing.image, seed, case.name)
        for seed, (case, thing) in enumerate(zip(cases, things, strict=True))
    ]


def on_grounds(cases: Sequence[MaskedPhoto]) -> Iterator[Removal]:
    down, across = np.mgrid[0:SIZE_PX, 0:SIZE_PX] / SIZE_PX
    for seed in range(GROUNDS):
        random = np.random.default_rng(100 + seed)
        colour, slope = random.uniform(60, 195, 3), random.uniform(-50, 50, (2, 3)) * (seed % 3 > 0)
        grain = random.normal(0, 4, (SIZE_PX, SIZE_PX, 1)) * (seed % 3 > 1)
        ground = colour + (down - 0.5)[..., None] * slope[0] + (across - 0.5)[..., None] * slope[1] + grain
        truth = ground.round().clip(0, 255).astype(np.uint8)
        yield pasted(truth, cases[seed % len(cases)].image, seed, f"ground {seed}")


def shows_something_new(removal: Removal, result: Pixels) -> bool:
    smooth = (cv2.blur(pixels.astype(np.float32), (5, 5)) for pixels in (result, removal.truth))
    difference = np.abs(np.subtract(*smooth)).max(axis=2)
    return bool(difference[removal.hole].max() > NEW)


def methods(catalog: str | None = None, models: Sequence[str] = ()) -> dict[str, Fill]:
    """By name. ``models``: those of a catalog's file that are measured too, by their own recipes."""
    own = {f"{name}, task=remove": worker_fill(name, catalog=catalog, task="remove") for name in models}
    return {
        "Telea r=5": telea,
        "worker/pixels/fill/texture.py": fill,
        "pocket, task=fill": worker_fill(),
        "pocket, task=remove": worker_fill(task="remove"),
        **own,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.removal", description=__doc__, parents=[keep_option()])
    parser.add_argument("--sheet", type=Path, default=Path("var/quality/removal.png"), help="where the pictures go")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--catalog", metavar="FILE", help="whose models --model names; without it the one that ships")
    parser.add_argument("--model", action="append", default=[], help="a model to be measured too; may come repeatedly")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    cases = load_cases(PHOTOS, "box", SIZE_PX)
    photos, grounds, metric = from_photos(cases), list(on_grounds(cases)), Metric()
    rows = [[removal.truth, removal.image] for removal in photos]
    record = Record(["method", "PSNR dB", "VGG-HED", "grounds with something new"])
    record.notes = [f"{len(photos)} photos, {len(grounds)} grounds, {SIZE_PX} px."]
    for name, method in methods(chosen.catalog, chosen.model).items():
        results = [method(removal.image, removal.hole) for removal in photos]
        for row, result in zip(rows, results, strict=True):
            row.append(result)
        near = np.mean([psnr(r.hole, r.truth, result) for r, result in zip(photos, results, strict=True)])
        far = np.mean([metric.distance(r.truth, result) for r, result in zip(photos, results, strict=True)])
        new = sum(shows_something_new(ground, method(ground.image, ground.hole)) for ground in grounds)
        record.add(name, f"{near:.2f}", f"{far:.4f}", f"{new} of {len(grounds)}")
    contact_sheet(rows, chosen.sheet)
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
