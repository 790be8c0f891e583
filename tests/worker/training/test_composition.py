"""Batches for models of the catalog: what the network is shown, what is asked of it, where and how much it counts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.worker import tiny
from tests.worker.training.drawn import picture, tiny_composer
from worker.denoise.modes import FillMode
from worker.families.flux import Flux
from worker.families.latent_diffusion import LatentDiffusion
from worker.pixels.canvas import Canvas
from worker.pixels.masks import latent_mask
from worker.training.composition import Batch, Choices, Composer
from worker.training.corpus import draw_batch
from worker.training.holes import MOST_COVERAGE
from worker.training.loss import HOLE_WEIGHT, KNOWN_WEIGHT
from worker.training.seeds import numpy_rng
from worker.training.targets import DiffusionLaw, FlowLaw

FAMILIES = [(family, mode) for family, made in tiny.FAMILIES.items() for mode in made.pipelines]
CONCAT = [family for family, mode in FAMILIES if mode == "concat"]
ORDINARY = [family for family, mode in FAMILIES if mode == "recompose"]
CHOICES = Choices(batch=2, size_px=tiny.SIZE)


def _composer(family: str, mode: str, **choices: Any) -> Composer:
    return tiny_composer(tiny.model(family, mode), dataclasses.replace(CHOICES, **choices))


def _crop(composer: Composer) -> tuple[Tensor, Canvas]:
    """A picture, (3, S, S), and the canvas that is made of it."""
    image = torch.from_numpy(picture(0, tiny.SIZE, tiny.SIZE) / 127.5 - 1).permute(2, 0, 1).float()
    return image, composer.canvas(image, np.random.default_rng(0))


def _encoded(composer: Composer, image: Tensor, canvas: Canvas) -> tuple[Tensor, Tensor, Tensor]:
    """With the random numbers of a request of seed 0."""
    model, generator = composer.family, torch.Generator().manual_seed(0)
    if model.encodes_image_at_full_strength:
        model.draw(canvas, generator)
    with torch.no_grad():
        return composer._encoded(image[None], canvas, generator)


def _canvases(composer: Composer, step: int) -> list[Canvas]:
    """Those of a step's first batch."""
    choices, rng = composer.choices, numpy_rng(composer.choices.seed, step, "crops 0")
    crops = draw_batch(composer.corpus, rng, choices.batch, choices.size_px)
    rng.random(choices.batch)  # of the captions
    return [composer.canvas(image, rng) for image in crops.image]


def _hole_shown(model: LatentDiffusion, batch: Batch) -> Tensor:
    """The mask among the input channels of a concat network, (B, 1, h, w)."""
    beside = batch.inputs[:, model.latent_channels :]
    if isinstance(model, Flux):  # after the masked image, and the pixels of a cell are its channels
        return beside[:, model.latent_channels :].amax(1, keepdim=True)
    return beside[:, :1]


@pytest.mark.parametrize(("family", "mode"), FAMILIES)
def test_a_batch_is_composed_as_a_request_is_served(family: str, mode: str) -> None:
    composer = _composer(family, mode)
    image, canvas = _crop(composer)
    assert (canvas.image == picture(0, tiny.SIZE, tiny.SIZE)).all()
    clean, repaint, beside = _encoded(composer, image, canvas)
    (served,) = composer.family.prepare(canvas, composer.parameters, lambda _phase: None)
    assert torch.equal(repaint, served.mask)
    assert clean.shape == served.latents.shape
    if served.extra_channels is None:
        assert beside.shape[1] == 0
    else:
        assert torch.equal(beside, served.extra_channels)
    batch = composer.draw(3)
    assert batch.target.shape == (2, *clean.shape[1:])
    assert batch.inputs.shape == (2, clean.shape[1] + beside.shape[1], *clean.shape[2:])


def test_latents_of_a_network_that_paints_on_the_fill_count_from_those_of_the_filled_picture() -> None:
    composer = _composer("sd", "concat")
    image, canvas = _crop(composer)
    plain, *_ = _encoded(composer, image, canvas)
    composer.family.mode = FillMode()
    on_fill, _, beside = _encoded(composer, image, canvas)
    base_latents = composer.family.likeliest("filled", canvas)
    assert torch.equal(on_fill, plain - base_latents)
    assert torch.equal(beside[:, 1:], base_latents)


@pytest.mark.parametrize("family", CONCAT)
def test_a_network_made_for_inpainting_is_judged_by_the_hole_and_a_little_by_its_surroundings(family: str) -> None:
    composer = _composer(family, "concat", batch=4)
    batch = composer.draw(0)
    hole = _hole_shown(composer.family, batch)
    assert hole.unique().tolist() == [0, 1]
    assert torch.equal(batch.cell_weight, torch.where(hole > 0, HOLE_WEIGHT, KNOWN_WEIGHT))
    assert HOLE_WEIGHT > KNOWN_WEIGHT


def _clean(composer: Composer, batch: Batch) -> Tensor:
    """The picture's latents, from what noised them and what is asked of the network, (B, C, h, w)."""
    law, (noised, target) = composer.law, (batch.inputs, batch.target)
    if isinstance(law, FlowLaw):
        return noised - batch.timestep.view(-1, 1, 1, 1) / 1000 * target
    assert isinstance(law, DiffusionLaw)
    kept = law.alphas_bar[batch.timestep].view(-1, 1, 1, 1)
    return (noised - (1 - kept).sqrt() * target) / kept.sqrt()  # of a tiny network, which predicts noise


@pytest.mark.parametrize("family", ORDINARY)
def test_of_a_composed_example_the_hole_is_noised_and_the_rest_clean_and_only_the_hole_is_judged(family: str) -> None:
    plain = _composer(family, "recompose", batch=4, last_share=0.0, composed_share=0.0)
    composed = _composer(family, "recompose", batch=4, last_share=0.0, composed_share=1.0).draw(0)
    noised, hole = plain.draw(0), composed.cell_weight > 0
    assert set(composed.cell_weight.unique().tolist()) == {0, 1}
    masks = [latent_mask(torch.tensor(canvas.mask), plain.family.latent_factor) > 0 for canvas in _canvases(plain, 0)]
    assert torch.equal(hole, torch.cat(masks))
    assert torch.equal(torch.where(hole, composed.inputs, 0), torch.where(hole, noised.inputs, 0))
    clean = _clean(plain, noised)
    torch.testing.assert_close(torch.where(hole, 0, composed.inputs), torch.where(hole, 0, clean), atol=2e-3, rtol=0)
    assert float(torch.where(hole, 0, noised.inputs - clean).abs().max()) > 1
    assert (noised.cell_weight == 1).all()
    for same in ("timestep", "target", "row_weight"):
        assert torch.equal(getattr(composed, same), getattr(noised, same)), same


def test_as_many_examples_of_an_ordinary_network_are_composed_as_asked() -> None:
    def share(**asked: float) -> float:
        composer = _composer("sd", "recompose", batch=16, wide_share=0.0, **asked)  # each hole leaves something clean
        weights = torch.cat([composer.draw(step).cell_weight for step in range(8)])
        return float((weights.amin((1, 2, 3)) == 0).float().mean())

    assert share(composed_share=0.0) == 0
    assert share(composed_share=1.0) == 1
    assert share() == pytest.approx(Choices.composed_share, abs=0.12)


@pytest.mark.parametrize("family", CONCAT)
def test_a_network_made_for_inpainting_is_shown_the_whole_picture_noised(family: str) -> None:
    composer = _composer(family, "concat", last_share=0.0)
    batch = composer.draw(0)
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"--composed-share {share}: for ordinary networks only"):
            _composer(family, "concat", composed_share=share)
    channels = composer.family.latent_channels
    clean = _clean(composer, dataclasses.replace(batch, inputs=batch.inputs[:, :channels]))
    changed = (batch.inputs[:, :channels] - clean).abs().amax(1)
    assert float((changed > 0.05).float().mean()) > 0.95


def _captions(composer: Composer, batches: int) -> list[str]:
    """Which of the corpus's titles, or none, each example was told."""
    texts = ["", *(photo.title for photo in composer.corpus.photos)]
    known = {text: composer._conditioning(text)["encoder_hidden_states"][0] for text in texts}
    drawn = [composer.draw(step).conditioning["encoder_hidden_states"] for step in range(batches)]
    return [next(text for text in texts if torch.equal(known[text], row)) for rows in drawn for row in rows]


def test_captions_are_left_out_as_often_as_asked() -> None:
    assert set(_captions(_composer("sd", "recompose", caption_dropout=1.0), 4)) == {""}
    assert "" not in _captions(_composer("sd", "recompose", caption_dropout=0.0), 4)
    told = _captions(_composer("sd", "recompose", caption_dropout=0.25, batch=8), 20)
    assert 0.15 < told.count("") / len(told) < 0.35


def test_a_caption_belongs_to_its_photo() -> None:
    composer = _composer("sd", "recompose", caption_dropout=0.0, batch=1)
    one = dataclasses.replace(composer.corpus, photos=composer.corpus.photos[1:2], weights=np.ones(1))
    composer.corpus = one
    assert _captions(composer, 3) == ["picture 1"] * 3


@pytest.mark.parametrize("family", ["sd", "sd3"])
def test_each_example_weighs_what_min_snr_gives_its_noise_level(family: str) -> None:
    composer = _composer(family, "recompose", batch=8, last_share=0.0, min_snr=0.1)
    batch = composer.draw(0)
    told = {float(composer.law.timestep(torch.tensor(level))): level for level in range(1000)}
    level = torch.tensor([told[float(timestep)] for timestep in batch.timestep])
    assert torch.equal(batch.row_weight, composer.law.min_snr(level, 0.1))
    assert len(batch.row_weight.unique()) > 4
    assert torch.equal(_composer(family, "recompose", batch=8).draw(0).row_weight, torch.ones(8))


@pytest.mark.parametrize(("family", "noisiest"), [("sd", 999), ("sd3", 1000)])
def test_as_many_examples_are_pure_noise_as_asked(family: str, noisiest: int) -> None:
    assert (_composer(family, "recompose", batch=8, last_share=1.0).draw(0).timestep == noisiest).all()
    assert (_composer(family, "recompose", batch=8, last_share=0.0).draw(0).timestep != noisiest).all()
    some = torch.cat(
        [_composer(family, "recompose", batch=8, last_share=0.3).draw(step).timestep for step in range(12)]
    )
    assert 0.15 < float((some == noisiest).float().mean()) < 0.45


def test_as_many_holes_are_wide_as_asked() -> None:
    def wide(share: float) -> float:
        composer, rng = _composer("sd", "concat", wide_share=share), np.random.default_rng(0)
        image, _ = _crop(composer)
        holes = [composer.canvas(image, rng).mask > 0 for _ in range(60)]
        sides = [(int(hole.any(0).sum()), int(hole.any(1).sum()), float(hole.mean())) for hole in holes]
        boxes = [min(w, h) >= tiny.SIZE // 2 and w * h == round(c * tiny.SIZE**2) for w, h, c in sides]
        assert all(box or coverage <= MOST_COVERAGE for box, (_, _, coverage) in zip(boxes, sides, strict=True))
        return float(np.mean(boxes))

    assert wide(1.0) == 1
    assert wide(0.0) < 0.2  # an ordinary hole may be a large box, too
    assert 0.1 < wide(0.3) < 0.55


def test_the_same_seed_step_and_part_give_the_same_batch_and_any_other_another() -> None:
    batch, again = (_composer("sd", "concat").draw(2, 1) for _ in range(2))
    for part in ("inputs", "timestep", "target", "cell_weight", "row_weight"):
        assert torch.equal(getattr(batch, part), getattr(again, part)), part
    for seed, step, number in ((1, 2, 1), (0, 3, 1), (0, 2, 0)):
        other = _composer("sd", "concat", seed=seed).draw(step, number)
        assert not torch.equal(batch.inputs, other.inputs)
        assert not torch.equal(batch.target, other.target)
