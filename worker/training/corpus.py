"""The training photos, decoded once, and the crops drawn from them afresh at each step."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """One row of the list: its file name, its title and its pixels, (H, W, 3) RGB."""

    file: str
    title: str
    pixels: Pixels

    @property
    def short_side_px(self) -> int:
        return int(min(self.pixels.shape[:2]))


@dataclass(frozen=True)
class Corpus:
    """Photos, each with the probability of being drawn."""

    photos: Sequence[Photo]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, photos: Sequence[Photo]) -> Corpus:
        """Larger photos hold more different crops: drawn in proportion to their short side."""
        sides = np.array([photo.short_side_px for photo in photos], dtype=np.float64)
        return cls(photos, sides / sides.sum())

    @classmethod
    def load(cls, folder: Path) -> Corpus:
        """Reads `train.csv` and every photo it lists (and no other file) from `train/` beside it."""
        with (folder / "train.csv").open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return cls.of([_read(folder / "train" / row["file"], row["title"]) for row in rows])

    def at_least(self, side_px: int) -> Corpus:
        """The photos that can give a crop of that size without being enlarged."""
        return Corpus.of([photo for photo in self.photos if photo.short_side_px >= side_px])

    @property
    def files(self) -> list[str]:
        return [photo.file for photo in self.photos]


@dataclass(frozen=True)
class CropBatch:
    """Square crops and the titles of their photos."""

    image: Tensor  # (B, 3, S, S) in [-1, 1]
    titles: list[str]


def draw_batch(corpus: Corpus, rng: np.random.Generator, count: int, size_px: int) -> CropBatch:
    """Draws photo, place, scale and flip of `count` crops, all resized to `size_px`."""
    crops, titles = [], []
    for index in rng.choice(len(corpus.photos), size=count, p=corpus.weights):
        photo = corpus.photos[int(index)]
        crops.append(draw_crop(photo.pixels, rng, size_px))
        titles.append(photo.title)
    stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    return CropBatch(stacked.float().div(127.5).sub(1).contiguous(), titles)


def draw_crop(pixels: Pixels, rng: np.random.Generator, size_px: int) -> Pixels:
    """A square of `size_px` (native scale) up to the short side, log-uniform, shrunk to `size_px`, maybe flipped."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    smallest = min(size_px, short)
    side = round(float(np.exp(rng.uniform(np.log(smallest), np.log(short)))))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = pixels[top : top + side, left : left + side]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if side != size_px:
        how = cv2.INTER_AREA if side > size_px else cv2.INTER_LINEAR
        crop = np.asarray(cv2.resize(np.ascontiguousarray(crop), (size_px, size_px), interpolation=how), dtype=np.uint8)
    return crop


def _read(path: Path, title: str) -> Photo:
    with Image.open(path) as image:
        return Photo(path.name, title, np.asarray(image.convert("RGB"), dtype=np.uint8))
