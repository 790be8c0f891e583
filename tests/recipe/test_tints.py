"""Tinted holes: the caption alone can tell their colour."""

from __future__ import annotations

import numpy as np
import torch

from recipe.captions import hole_colour, tinted_caption
from recipe.example import filled_image
from recipe.tints import draw_colour, tint
from recipe.words import HUES, all_colour_words, colour_words


def _photo() -> tuple[torch.Tensor, torch.Tensor]:
    """(3, 32, 32) in [-1, 1] and a hole, (1, 32, 32)."""
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) - 0.5
    mask = torch.zeros(1, 32, 32)
    mask[:, 8:24, 10:20] = 1
    return image, mask


def test_only_the_hole_is_tinted_and_neither_its_surroundings_nor_its_fill_tells_the_colour() -> None:
    image, mask = _photo()
    tinted = tint(np.random.default_rng(1), image, mask)
    known = (mask < 0.5).expand_as(image)
    assert torch.equal(tinted[known], image[known])
    assert not torch.equal(tinted, image)
    assert torch.equal(filled_image(tinted[None], mask[None]), filled_image(image[None], mask[None]))


def test_a_tinted_hole_keeps_its_light_and_shade() -> None:
    image, mask = _photo()
    hole = mask[0] > 0.5
    before = image.mean(0)[hole]
    for seed in range(5):
        after = tint(np.random.default_rng(seed), image, mask).mean(0)[hole]
        assert float(torch.corrcoef(torch.stack([before, after]))[0, 1]) > 0.6


def test_the_caption_names_the_colour_that_the_hole_was_given() -> None:
    image, mask = _photo()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        tinted = tint(rng, image, mask)
        assert tinted_caption(rng, tinted, mask).startswith(colour_words(hole_colour(tinted, mask)))


def test_every_hue_is_drawn_and_so_are_greys() -> None:
    rng = np.random.default_rng(0)
    names = [colour_words(draw_colour(rng)) for _ in range(2000)]
    assert set(names) <= set(all_colour_words())
    for hue in ("red", "yellow", "green", "cyan", "blue", "purple", "pink"):
        assert 0.07 < sum(name.endswith(hue) for name in names) / 2000 < 0.16
    assert any("grey" in name for name in names)
    assert len(HUES) == 8


def test_a_filled_picture_keeps_its_known_pixels_to_a_rounding_and_loses_the_hole() -> None:
    image, mask = _photo()
    filled = filled_image(image[None], mask[None])[0]
    known = (mask < 0.5).expand_as(image)
    assert float((filled - image)[known].abs().max()) <= 0.5 / 127.5 + 1e-6
    other = torch.where(mask > 0.5, -image, image)
    assert torch.equal(filled, filled_image(other[None], mask[None])[0])
