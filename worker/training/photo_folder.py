"""A folder of photos to learn from, with what they show in text files of the same names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from worker.training.corpus import Corpus, Photo, Pixels

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
ROOM = 2
"""Photos are kept at most this many times as large as a crop: enough to draw crops of different scales."""


def load_folder(folder: Path, size_px: int) -> Corpus:
    """Every picture right inside `folder`, upright and RGB; its caption is in `NAME.txt` beside it, or empty.

    All are held in memory. Raises ValueError if there are none, or one cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} has no pictures ({', '.join(SUFFIXES)})")
    return Corpus.of([Photo(path.name, _caption(path), _pixels(path, ROOM * size_px)) for path in paths])


def _caption(path: Path) -> str:
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8").strip() if text.exists() else ""


def _pixels(path: Path, short_side_px: int) -> Pixels:
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if (scale := short_side_px / min(image.size)) < 1:
        width, height = (max(round(side * scale), short_side_px) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.uint8)
