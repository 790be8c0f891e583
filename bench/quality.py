"""Inpainting quality on the development photos: the pocket model beside classical fills.

The pocket model runs the service's own way, at its catalog defaults and, for comparison, with fewer and more steps.
`python -m bench.quality` prints PSNR in the hole, SSIM over its bounding box and the VGG-HED distance of the picture,
each a mean over the photos, and writes a contact sheet. PSNR rewards blur: read it beside the other two.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from bench.record import Record, keep_option
from bench.worker_fill import worker_fill
from recipe.vgg_hed import VggHed
from worker.pixels.fill.biharmonic import smooth_fill
from worker.pixels.fill.texture import fill

Pixels = NDArray[np.uint8]
Hole = NDArray[np.bool_]
Fill = Callable[[Pixels, Hole], Pixels]
MASKS = ("brush", "box")
MEANING = "PSNR in the hole (dB) / SSIM over its box (higher is better) / VGG-HED of the picture (lower is better)."
PHOTOS = Path(__file__).with_name("photos")


@dataclass(frozen=True)
class MaskedPhoto:
    """One photo with its hole (True = repaint), both square."""

    name: str
    image: Pixels
    hole: Hole


@dataclass(frozen=True)
class Score:
    psnr: float
    ssim: float
    vgg_hed: float
    ms: float

    def cells(self) -> list[str]:
        return [f"{self.psnr:.2f} / {self.ssim:.4f} / {self.vgg_hed:.4f}", f"{self.ms:.0f}"]


def load_cases(folder: Path, mask: str, size_px: int) -> list[MaskedPhoto]:
    """The centre squares: photos resized with Lanczos, masks by the nearest pixel."""
    cases = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as photo, Image.open(folder / "masks" / f"{path.stem}_{mask}.png") as grey:
            image = _square(photo.convert("RGB"), size_px, Image.Resampling.LANCZOS)
            hole = _square(grey.convert("L"), size_px, Image.Resampling.NEAREST) > 127
        cases.append(MaskedPhoto(path.stem.split("_", 1)[1], image, hole))
    return cases


def _square(image: Image.Image, size_px: int, how: Image.Resampling) -> Pixels:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((size_px, size_px), how), dtype=np.uint8)


def mean_fill(image: Pixels, hole: Hole) -> Pixels:
    """The mean colour of the known pixels."""
    filled = image.copy()
    filled[hole] = image[~hole].mean(0).round().astype(np.uint8)
    return filled


def telea(image: Pixels, hole: Hole) -> Pixels:
    return np.asarray(cv2.inpaint(image, hole.astype(np.uint8), 5, cv2.INPAINT_TELEA), dtype=np.uint8)


def navier_stokes(image: Pixels, hole: Hole) -> Pixels:
    return np.asarray(cv2.inpaint(image, hole.astype(np.uint8), 5, cv2.INPAINT_NS), dtype=np.uint8)


def biharmonic(image: Pixels, hole: Hole) -> Pixels:
    filled = inpaint_biharmonic(image, hole, channel_axis=2)
    return np.asarray((np.clip(filled, 0, 1) * 255).round(), dtype=np.uint8)


class Metric:
    """VGG-HED of two pictures; a photo that is compared with many fills is looked at once."""

    def __init__(self) -> None:
        self._eyes = VggHed.load()
        self._seen = functools.lru_cache(maxsize=64)(self._look)

    def distance(self, a: Pixels, b: Pixels) -> float:
        return float(self._eyes.distance(self._seen(a.tobytes(), a.shape), self._seen(b.tobytes(), b.shape)))

    @torch.inference_mode()
    def _look(self, pixels: bytes, shape: tuple[int, ...]) -> list[Tensor]:
        image = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(shape)
        return self._eyes.features(image.permute(2, 0, 1)[None].float() / 127.5 - 1)


def psnr(hole: NDArray[np.bool_], one: Pixels, other: Pixels) -> float:
    """Of two pictures, (H, W, 3), where ``hole``, (H, W), is true; in dB."""
    error = (one[hole].astype(np.float64) - other[hole]) ** 2
    return float(10 * np.log10(255**2 / max(error.mean(), 1e-9)))


def score(case: MaskedPhoto, filled: Pixels, metric: Metric, ms: float) -> Score:
    _, similarity = structural_similarity(case.image, filled, channel_axis=2, full=True)
    rows, columns = np.flatnonzero(case.hole.any(1)), np.flatnonzero(case.hole.any(0))
    box = similarity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Score(psnr(case.hole, case.image, filled), float(box.mean()), metric.distance(case.image, filled), ms)


def mean_score(scores: Iterable[Score]) -> Score:
    columns = np.array([[s.psnr, s.ssim, s.vgg_hed, s.ms] for s in scores]).mean(0)
    return Score(*(float(value) for value in columns))


def contact_sheet(rows: list[list[Pixels]], path: Path) -> None:
    """One row a photo: the photo, its hole, then each method."""
    sheet = np.vstack([np.hstack(row) for row in rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)


def measure(folder: Path, size_px: int, methods: dict[str, Fill], sheets: Path, record: Record) -> None:
    """Adds a row for each method, and writes a contact sheet for each kind of mask."""
    metric = Metric()
    cases = {kind: load_cases(folder, kind, size_px) for kind in MASKS}
    holes = {kind: [_hole_marked(case) for case in masked] for kind, masked in cases.items()}
    for name, method in methods.items():
        scores = {
            kind: [_scored(case, method, metric, row) for case, row in zip(cases[kind], holes[kind], strict=True)]
            for kind in MASKS
        }
        record.add(str(size_px), name, *(cell for kind in MASKS for cell in mean_score(scores[kind]).cells()))
    for kind, rows in holes.items():
        contact_sheet(rows, sheets / f"quality-{size_px}-{kind}.png")
        coverage = np.mean([case.hole.mean() for case in cases[kind]])
        record.notes.append(f"{size_px} px: {len(rows)} photos, {kind} {100 * coverage:.1f} % of them.")


def _hole_marked(case: MaskedPhoto) -> list[Pixels]:
    """The beginning of its row in the sheet."""
    return [case.image, np.where(case.hole[..., None], 255, case.image).astype(np.uint8)]


def _scored(case: MaskedPhoto, method: Fill, metric: Metric, row: list[Pixels]) -> Score:
    begun = time.perf_counter()
    row.append(method(case.image, case.hole))
    return score(case, row[-1], metric, 1000 * (time.perf_counter() - begun))


CLASSICAL: dict[str, Fill] = {
    "mean fill": mean_fill,
    "Telea r=5": telea,
    "Navier-Stokes": navier_stokes,
    "biharmonic": biharmonic,
    "worker/pixels/fill/biharmonic.py": smooth_fill,
    "worker/pixels/fill/texture.py": fill,
}


def add_photo_options(parser: argparse.ArgumentParser) -> None:
    """Which development photos and holes, for commands that look at one kind and size at a time."""
    parser.add_argument("--eval", type=Path, default=PHOTOS, help="photos, with masks/ in them")
    parser.add_argument("--mask", choices=("brush", "box"), default="box")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__, parents=[keep_option()])
    parser.add_argument("--eval", type=Path, default=PHOTOS, help="photos, with masks/ in them")
    parser.add_argument(
        "--size", type=int, nargs="+", default=[256], help="sides in pixels (%(default)s); the photos here are 256"
    )
    parser.add_argument("--sheets", type=Path, default=Path("var/quality"), help="where contact sheets go")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="only these rows of the table, by their names")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    record = Record(["px", "method", *(column for kind in MASKS for column in (kind, "ms"))], notes=[MEANING])
    methods = CLASSICAL | {
        "pocket": worker_fill(),
        "pocket, 2 steps": worker_fill(num_inference_steps=2),
        "pocket, 20 steps": worker_fill(num_inference_steps=20),
    }
    if unknown := set(chosen.methods or ()) - set(methods):
        parser.error(f"there is no method {', '.join(sorted(unknown))}; known: {', '.join(methods)}")
    methods = {name: methods[name] for name in chosen.methods or methods}
    for size_px in chosen.size:
        measure(chosen.eval, size_px, methods, chosen.sheets, record)
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
