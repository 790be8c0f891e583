"""Masks that are found, beside masks drawn by hand: intersection over union, and what the score is worth.

`python -m bench.masks` looks for the subjects of the development photos, whose outlines were drawn by hand
(`bench/photos/subjects.json`), and for pieces of photos pasted into others, whose outlines are known. Each is asked for
by a box a little larger than it, by one click in its middle, by three clicks on it and two beside it, and, of the
photos, by nothing but `mask_subject`. An answer below the least score counts as refused, not by its overlap.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from app.grabcut import find
from app.selections import Selection
from app.subject_masks import LEAST_SCORE
from bench.quality import PHOTOS, Hole, Pixels, load_cases
from bench.record import Record, keep_option
from bench.removal import from_photos
from jobs.mask_fields import SubjectPoint

SUBJECTS = PHOTOS / "subjects.json"
SIZE_PX = 256
MARGIN = 0.04
"""Of a box's longer side, by which it is drawn too large."""


@dataclass(frozen=True)
class Case:
    name: str
    image: Pixels
    truth: Hole


def by_hand() -> Iterator[Case]:
    """Outlines are lists of points in hundredths of the photo's side."""
    outlines = json.loads(SUBJECTS.read_text())
    for case in load_cases(PHOTOS, "box", SIZE_PX):
        if polygons := outlines.get(case.name):
            points = [(np.array(polygon) * SIZE_PX / 100).round().astype(np.int32) for polygon in polygons]
            mask = cv2.fillPoly(np.zeros((SIZE_PX, SIZE_PX), np.uint8), points, 1)
            yield Case(case.name, case.image, np.asarray(mask > 0))


def pasted() -> Iterator[Case]:
    """``bench.removal`` draws its holes 4 px larger than what it pastes."""
    for removal in from_photos(load_cases(PHOTOS, "box", SIZE_PX)):
        thing = cv2.erode(removal.hole.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
        yield Case(removal.name, removal.image, np.asarray(thing > 0))


def box(truth: Hole) -> Selection:
    left, top, width, height = cv2.boundingRect(truth.astype(np.uint8))
    more = MARGIN * max(width, height)
    right, bottom = min(SIZE_PX, left + width + more), min(SIZE_PX, top + height + more)
    return Selection(box=(max(0.0, left - more), max(0.0, top - more), right, bottom))


def clicks(truth: Hole, count: int) -> list[tuple[float, float]]:
    """Far inside, and far from each other."""
    depth = cv2.distanceTransform(np.pad(truth.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    down, across = np.mgrid[:SIZE_PX, :SIZE_PX]
    found = []
    for _ in range(count):
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        found.append((float(x), float(y)))
        depth = np.minimum(depth, 0.7 * np.hypot(down - y, across - x))
    return found


def points(truth: Hole, on: int, beside: int) -> Selection:
    found: list[SubjectPoint] = [(x, y, 1) for x, y in clicks(truth, on)]
    return Selection(points=(*found, *((x, y, 0) for x, y in clicks(~truth, beside))))


WAYS: Mapping[str, Callable[[Hole], Selection]] = {
    "`mask_box`": box,
    "one point": lambda truth: points(truth, 1, 0),
    "three points, two beside": lambda truth: points(truth, 3, 2),
    "`mask_subject` alone": lambda _: Selection(),
}


def overlap(found: Pixels, truth: Hole) -> float:
    return float((truth & (found > 0)).sum() / (truth | (found > 0)).sum())


def row(cases: list[Case], way: Callable[[Hole], Selection]) -> list[str]:
    overlaps, scores, began = [], [], time.process_time()
    for case in cases:
        found = find(case.image, way(case.truth))
        overlaps.append(overlap(found.subject, case.truth))
        scores.append(found.score)
    spent_s = (time.process_time() - began) / len(cases)
    taken = [value for value, score in zip(overlaps, scores, strict=True) if score >= LEAST_SCORE]
    sure = [value for value, score in zip(overlaps, scores, strict=True) if score >= 0.6]
    figures = [f"{np.mean(values):.2f} ({len(values)})" if values else "- (0)" for values in (taken, sure)]
    return [*figures, f"{min(taken, default=0):.2f}", f"{len(cases) - len(taken)}", f"{spent_s:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.masks", description=__doc__, parents=[keep_option()])
    parser.add_argument("--sheet", type=Path, default=Path("var/quality/masks.png"), help="where the pictures go")
    chosen = parser.parse_args()
    cv2.setNumThreads(1)
    kinds = {"drawn by hand": list(by_hand()), "pasted": list(pasted())}
    columns = ["masks", "asked for by", "IoU (masks)", "of score 0.6 and above", "least", "refused", "seconds"]
    record = Record(columns)
    counts = ", ".join(f"{len(cases)} {name}" for name, cases in kinds.items())
    record.notes = [f"{counts}, {SIZE_PX} px; seconds of processor time."]
    for name, cases in kinds.items():
        for asked, way in WAYS.items():
            if name == "pasted" and asked.startswith("`mask_subject`"):
                continue  # what is pasted is not what the photo is of
            record.add(name, asked, *row(cases, way))
    sheet(kinds["drawn by hand"], chosen.sheet)
    record.finish(chosen.keep)


def sheet(cases: list[Case], path: Path) -> None:
    """A row a photo: what each way found, all else darkened."""
    rows = []
    for case in cases:
        masks = [case.truth, *(find(case.image, way(case.truth)).subject > 0 for way in WAYS.values())]
        rows.append(np.hstack([np.where(mask[..., None], case.image, case.image // 4) for mask in masks]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(path)


if __name__ == "__main__":
    main()
