from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from worker.training.holes import LEAST_COVERAGE, MOST_COVERAGE, SHAPES, SHARES, draw_mask, draw_wide_mask


def _many(seed: int, count: int, size_px: int = 96) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([draw_mask(rng, size_px) for _ in range(count)])


def test_masks_are_binary_and_of_the_size_asked() -> None:
    masks = _many(0, 20, 64)
    assert masks.shape == (20, 64, 64)
    assert set(np.unique(masks)) == {0, 1}


def test_coverage_is_that_of_real_edits() -> None:
    coverage = _many(0, 400).mean((1, 2))
    assert coverage.min() >= LEAST_COVERAGE
    assert coverage.max() <= MOST_COVERAGE
    assert 0.1 < coverage.mean() < 0.22


def test_holes_fall_everywhere() -> None:
    frequency = _many(0, 400).mean(0)
    assert frequency.min() > 0.01
    assert frequency.max() < 0.5


def test_the_same_seed_draws_the_same_masks() -> None:
    assert np.array_equal(_many(5, 10), _many(5, 10))
    assert not np.array_equal(_many(5, 10), _many(6, 10))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_paints_something_at_every_size(shape: Callable[[np.ndarray, np.random.Generator], None]) -> None:
    for size_px in (32, 128, 256):
        for seed in range(20):
            mask = np.zeros((size_px, size_px), np.uint8)
            shape(mask, np.random.default_rng(seed))
            assert mask.any()


def test_the_shares_of_the_shapes_add_up() -> None:
    assert sum(SHARES) == pytest.approx(1)
    assert len(SHARES) == len(SHAPES)


def test_wide_holes_leave_a_rim_and_cover_a_quarter_at_least() -> None:
    rng = np.random.default_rng(0)
    coverage = [draw_wide_mask(rng, 128).mean() for _ in range(200)]
    assert 0.2 < min(coverage) < 0.35
    assert 0.75 < max(coverage) < 1
