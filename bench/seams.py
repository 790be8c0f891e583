"""Seams: how far the borders of tiles, and a photo's edge, are seen in what was painted over them.

`python -m bench.seams` has the pocket model fill large holes and extend photos, at first shrunk (`hires=off`), then in
tiles. The photos are the development ones, mirrored to and fro, so that they have detail at native pixels. A seam is
the mean step from a pixel to the next across the lines where one tile becomes another, over the mean step elsewhere in
the fill: 1 is no seam. Detail is the mean step in the fill over that in the photo. Medians over the photos; the largest
in brackets.
"""

import argparse
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from bench.quality import PHOTOS, Pixels, contact_sheet, load_cases
from bench.record import Record, keep_option
from jobs.catalog import ModelEntry, load_catalog
from jobs.regions import Region
from jobs.schema import Extension, InpaintParameters, InpaintRequest, JobReport, Tiles
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.stopwatch import Stopwatch
from worker.engine.task import Task
from worker.models.loading import Loader
from worker.settings import WorkerSettings

SIZE = 1152, 896
"""Width and height of the photos."""
BORDER_PX = 640
"""By which they are extended to the right; the photo then has this many columns as well."""
STRENGTHS = (0.25, 0.5, 1.0)
"""Of the tiles."""


@dataclass(frozen=True)
class Case:
    """``photo``: what is uploaded, (H, W, 3). ``mask``: of the result's size, (H', W'). ``truth``: of that size too."""

    truth: Pixels
    photo: Pixels
    mask: Pixels
    extension: Extension | None = None

    @property
    def uploads(self) -> dict[str, bytes]:
        return {"image": _png(self.photo), "mask": _png(self.mask)}


def holes(photos: Sequence[Pixels]) -> Iterator[Case]:
    """A large ellipse in the middle."""
    width, height = SIZE
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width * 2 // 5, height * 2 // 5), 0, 0, 360, 255, -1)
    for photo in photos:
        yield Case(photo, photo, mask)


def borders(photos: Sequence[Pixels]) -> Iterator[Case]:
    """A wide border at the right."""
    for photo in photos:
        left, width, height = BORDER_PX, 2 * BORDER_PX, SIZE[1]
        truth = np.ascontiguousarray(photo[:, : min(width, SIZE[0])])
        truth = cv2.copyMakeBorder(truth, 0, 0, 0, width - truth.shape[1], cv2.BORDER_REFLECT)
        mask = np.full((height, width), 255, np.uint8)
        mask[:, :left] = 0
        extension = Extension(left=0, top=0, right=width - left, bottom=0, width=width, height=height)
        yield Case(truth, np.ascontiguousarray(truth[:, :left]), mask, extension)


class Model:
    """The pocket model, in this process."""

    def __init__(self) -> None:
        self.entry: ModelEntry = load_catalog().model("pocket")
        family = Loader(WorkerSettings()).load("pocket", self.entry)
        self.session = Session(Engine({"pocket": family}, max_rows=16), codec_threads=1)

    def run(self, case: Case, strength: float | None) -> tuple[Pixels, Sequence[Region]]:
        """The result, and the tiles that it was painted in; without ``strength``, shrunk alone."""
        task = Task("bench", self._parameters(case, strength), self.entry, Stopwatch(0.0))
        self.session.take(task, case.uploads)  # type: ignore[arg-type]  # a mapping's names are its own
        self.session.run([task])
        if not isinstance(task.outcome, JobReport):
            raise RuntimeError(f"the fill failed: {task.outcome}")
        with Image.open(io.BytesIO(task.images[0])) as image:
            return np.asarray(image.convert("RGB")), task.tiles

    def painted(self, case: Case, strength: float | None) -> Pixels:
        return self.run(case, strength)[0]

    def _parameters(self, case: Case, strength: float | None) -> InpaintParameters:
        asked = InpaintRequest(seed=0, task="extend" if case.extension else "fill")
        tiles = Tiles(count=64, strength=strength) if strength else None
        parameters = self.entry.resolve("pocket", asked)
        return parameters.model_copy(update={"tiles": tiles, "extend": case.extension})


def seam(result: Pixels, mask: Pixels, across: Sequence[int], down: Sequence[int]) -> float:
    """The mean step over the columns ``across`` and the rows ``down``, over the mean step in the hole."""
    on, all_of_it = [], []
    for axis, places in ((1, across), (0, down)):
        steps, inside = _steps(result, mask, axis)
        there = np.zeros_like(inside)
        np.moveaxis(there, axis, 0)[[place - 1 for place in places]] = True
        on.append(steps[inside & there])
        all_of_it.append(steps[inside & ~there])
    return float(np.concatenate(on).mean() / np.concatenate(all_of_it).mean())


def detail(result: Pixels, truth: Pixels, mask: Pixels) -> float:
    """The mean step in the hole, over that of what was there."""
    parts = [[_steps(pixels, mask, axis) for axis in (0, 1)] for pixels in (result, truth)]
    mean = [np.concatenate([steps[inside] for steps, inside in part]).mean() for part in parts]
    return float(mean[0] / mean[1])


def _steps(pixels: Pixels, mask: Pixels, axis: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """From each pixel to the next along an axis, and whether both are in the hole."""
    steps = np.abs(np.diff(pixels.astype(np.float32), axis=axis)).mean(axis=2)
    hole = mask == 255
    first, second = (hole[:, :-1], hole[:, 1:]) if axis else (hole[:-1], hole[1:])
    return steps, first & second


def borders_of(tiles: Sequence[Region], axis: int) -> list[int]:
    """Where along an axis one tile becomes the next: the middles of overlaps, and the tiles' own borders there."""
    spans = sorted({(tile.box[axis], tile.box[axis + 2]) for tile in tiles})
    return sorted({place for (_, end), (begin, _) in pairwise(spans) for place in (begin, (begin + end) // 2, end)})


def photo_edge(result: Pixels) -> float:
    """The step from the photo to its new border, over the mean step in the border."""
    steps = np.abs(np.diff(result.astype(np.float32), axis=1)).mean(axis=2)
    return float(steps[:, BORDER_PX - 1].mean() / steps[:, BORDER_PX:].mean())


def measured(record: Record, name: str, model: Model, cases: Sequence[Case], sheet: Path) -> None:
    """One line for each way of running the cases."""
    rows = [[np.where(case.mask[..., None] > 0, np.uint8(0), case.truth)] for case in cases]
    _, tiles = model.run(cases[0], STRENGTHS[0])
    lines = borders_of(tiles, 0), borders_of(tiles, 1)
    ways: dict[str, Callable[[Case], Pixels]] = {"the photo itself": lambda case: case.truth}
    ways["hires=off"] = partial(model.painted, strength=None)
    for strength in STRENGTHS:
        ways[f"{len(tiles)} tiles, strength {strength}"] = partial(model.painted, strength=strength)
    for way, run in ways.items():
        results = [run(case) for case in cases]
        for row, result in zip(rows, results, strict=True):
            row.append(result)
        both = list(zip(cases, results, strict=True))
        seams = [seam(result, case.mask, *lines) for case, result in both]
        edges = [photo_edge(result) for case, result in both if case.extension]
        sharp = [detail(result, case.truth, case.mask) for case, result in both]
        record.add(name, way, _told(seams), _told(edges), f"{np.median(sharp):.2f}")
    sheet.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, sheet)


def _told(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f} ({max(values):.2f})" if values else ""


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.seams", description=__doc__, parents=[keep_option()])
    parser.add_argument("--sheets", type=Path, default=Path("var/seams"), help="a folder, for the pictures")
    parser.add_argument("--photos", type=int, default=6, help="how many")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    width, height = SIZE
    photos = [
        cv2.copyMakeBorder(case.image, 0, height - 256, 0, width - 256, cv2.BORDER_REFLECT)
        for case in load_cases(PHOTOS, "box", 256)[: chosen.photos]
    ]
    model = Model()
    record = Record(["pictures", "run", "seam of tiles", "seam at the photo's edge", "detail"])
    record.notes = [
        f"{len(photos)} photos of {width} x {height}, the model's longest side is {model.entry.max_size_px}."
    ]
    measured(record, "a hole", model, list(holes(photos)), chosen.sheets / "holes.png")
    measured(record, "a border", model, list(borders(photos)), chosen.sheets / "borders.png")
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
