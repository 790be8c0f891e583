from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from recipe.captions import caption, hole_colour
from recipe.tokens import train_tokenizer
from recipe.words import all_colour_words, colour_words, plain_title, things


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((1.0, 0.0, 0.0), "bright red"),
        ((0.1, 0.1, 0.3), "dark blue"),
        ((0.0, 0.0, 0.0), "black"),
        ((1.0, 1.0, 1.0), "white"),
        ((0.5, 0.5, 0.5), "grey"),
        ((0.4, 0.25, 0.1), "brown"),
        ((0.1, 0.8, 0.2), "bright green"),
        ((0.7, 0.8, 0.95), "light blue"),
    ],
)
def test_colours_are_called_what_people_call_them(rgb: tuple[float, float, float], name: str) -> None:
    assert colour_words(rgb) == name


def test_every_colour_has_a_name_that_the_tokenizer_was_shown() -> None:
    grid = np.linspace(0, 1, 9)
    names = {colour_words((r, g, b)) for r in grid for g in grid for b in grid}
    assert names <= set(all_colour_words())
    assert len(names) > 20


def test_titles_lose_numbers_and_brackets() -> None:
    assert plain_title("Symphodus ocellatus 24-05-07 (Stefano Guerrieri)") == "symphodus ocellatus"


def test_the_colour_is_that_of_the_hole_alone() -> None:
    image, mask = torch.full((3, 8, 8), -1.0), torch.zeros(1, 8, 8)
    mask[:, :4] = 1
    image[0, :4] = 1
    assert hole_colour(image, mask) == (1.0, 0.0, 0.0)


def test_half_of_the_captions_are_empty() -> None:
    rng = np.random.default_rng(0)
    image, mask = torch.ones(3, 8, 8), torch.ones(1, 8, 8)
    captions = [caption(rng, image, mask, "A parrot 3") for _ in range(1000)]
    assert 0.45 < captions.count("") / 1000 < 0.55
    assert {"white", "parrot", "white parrot"} <= set(captions)


def test_the_tokenizer_survives_saving_and_knows_every_text(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = CLIPTokenizer.from_pretrained(str(tmp_path))
    for text in ("dark blue door", "Ünïcödé 猫, 42!", ""):
        assert loaded(text).input_ids == tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids[1:-1]
    assert loaded.model_max_length == 77
    assert len(loaded("red", padding="max_length").input_ids) == 77


def test_colour_words_are_single_tokens() -> None:
    tokenizer = train_tokenizer(["A parrot"], merges=300)
    assert tokenizer.tokenize("Dark grey") == ["dark</w>", "grey</w>"]


def test_the_list_of_things_holds_words_only() -> None:
    assert all(word.isalpha() and word.islower() for word in things())
    assert len(things()) > 300
