from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.worker.training.drawn import picture
from worker.training.corpus import Corpus, Photo, draw_batch, draw_crop
from worker.training.seeds import numpy_rng, torch_rng


def test_only_listed_photos_are_read(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("listed.png", "unlisted.png"):
        Image.fromarray(picture(0)).save(tmp_path / "train" / name)
    with (tmp_path / "train.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([["file", "title"], ["listed.png", "A disc"]])
    loaded = Corpus.load(tmp_path)
    assert [(photo.file, photo.title) for photo in loaded.photos] == [("listed.png", "A disc")]
    assert np.array_equal(loaded.photos[0].pixels, picture(0))


def test_crops_are_square_of_the_size_asked_and_in_range(corpus: Corpus) -> None:
    batch = draw_batch(corpus, numpy_rng(0, 0, "test"), 5, 48)
    assert batch.image.shape == (5, 3, 48, 48)
    assert batch.image.min() >= -1
    assert batch.image.max() <= 1
    assert len(batch.titles) == 5


def test_the_same_seed_and_step_draw_the_same_crops(corpus: Corpus) -> None:
    def draw(step: int) -> list[float]:
        return draw_batch(corpus, numpy_rng(7, step, "test"), 3, 32).image.flatten().tolist()

    assert draw(4) == draw(4)
    assert draw(4) != draw(5)


def test_streams_of_one_step_differ_by_name() -> None:
    assert numpy_rng(0, 1, "a").random() != numpy_rng(0, 1, "b").random()
    assert torch_rng(0, 1, "a").initial_seed() != torch_rng(0, 1, "b").initial_seed()


def test_crops_come_flipped_and_unflipped_and_at_many_scales() -> None:
    ramp = np.repeat(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], 96, 0).repeat(3, 2)
    rng = np.random.default_rng(0)
    spans = [int(crop[0, -1, 0]) - int(crop[0, 0, 0]) for crop in (draw_crop(ramp, rng, 32) for _ in range(60))]
    assert min(spans) < 0 < max(spans)
    assert len({abs(span) // 10 for span in spans}) > 5


def test_a_photo_smaller_than_the_crop_is_enlarged() -> None:
    assert draw_crop(picture(0, 20, 30), np.random.default_rng(0), 64).shape == (64, 64, 3)


def test_large_photos_are_drawn_in_proportion_to_their_short_side() -> None:
    small, large = Photo("s", "", picture(0, 30, 90)), Photo("l", "", picture(1, 60, 60))
    assert Corpus.of([small, large]).weights.tolist() == pytest.approx([1 / 3, 2 / 3])
    assert Corpus.of([small, large]).at_least(50).files == ["l"]
