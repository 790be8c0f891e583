"""The two training commands on tiny networks: same seed, same weights; a resumed run goes on bit for bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from recipe.latent_space import LatentSpace
from recipe.painter import Painter
from recipe.unet import Source, UnetRecipe, train_unet
from recipe.vae import VaeRecipe, reconstruction_loss, train_vae
from worker.training.corpus import Corpus
from worker.training.run import learning_rate, plateau_rate, set_learning_rate

UNET = UnetRecipe(
    steps=6, batch=2, size_px=32, large_from=4, large_batch=2, parts=2, large_px=64, warm_up=2, save_every=3
)
VAE = VaeRecipe(steps=4, batch=2, size_px=16, warm_up=1, save_every=2)
Weights = dict[str, Tensor]


def _run(painter: Painter, corpus: Corpus, space: LatentSpace, folder: Path, stop_at: int | None = None) -> Weights:
    """Trains a copy, so that every call starts from the same weights."""
    fresh = copy.deepcopy(painter)
    progress = train_unet(Source.of(corpus, space, UNET), fresh, folder, UNET, stop_at)
    weights = {f"unet.{name}": value for name, value in fresh.unet.state_dict().items()}
    weights |= {f"text.{name}": value for name, value in fresh.text_encoder.state_dict().items()}
    return weights | {f"mean.{name}": value for name, value in progress.averages["unet"].items()}


def _equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_unet_runs_of_one_seed_agree_and_a_resumed_one_continues_bit_for_bit(
    painter: Painter, corpus: Corpus, space: LatentSpace, tmp_path: Path
) -> None:
    through = _run(painter, corpus, space, tmp_path / "through")
    assert _equal(through, _run(painter, corpus, space, tmp_path / "again"))
    half = _run(painter, corpus, space, tmp_path / "halves", stop_at=3)
    assert not _equal(through, half)
    assert _equal(through, _run(painter, corpus, space, tmp_path / "halves"))


def test_the_text_encoder_learns_with_the_unet(
    painter: Painter, corpus: Corpus, space: LatentSpace, tmp_path: Path
) -> None:
    before = copy.deepcopy(painter.text_encoder.state_dict())
    after = _run(painter, corpus, space, tmp_path)
    assert any(not torch.equal(before[name], after[f"text.{name}"]) for name in before)


def test_vae_runs_of_one_seed_agree_and_a_resumed_one_continues_bit_for_bit(
    corpus: Corpus, space: LatentSpace, tmp_path: Path
) -> None:
    through = train_vae(corpus, space, tmp_path / "through", VAE).state_dict()
    assert _equal(through, train_vae(corpus, space, tmp_path / "again", VAE).state_dict())
    train_vae(corpus, space, tmp_path / "halves", VAE, stop_at=2)
    assert _equal(through, train_vae(corpus, space, tmp_path / "halves", VAE).state_dict())


def test_a_run_lists_the_photos_it_could_see(corpus: Corpus, space: LatentSpace, tmp_path: Path) -> None:
    train_vae(corpus, space, tmp_path, VAE, stop_at=1)
    assert json.loads((tmp_path / "files.json").read_text()) == sorted(corpus.files)


def test_the_loss_falls_when_one_batch_is_learnt_by_heart(painter: Painter, corpus: Corpus, space: LatentSpace) -> None:
    source = Source.of(corpus, space, UNET)
    example, texts = source.draw(0, 2, 32)
    optimizer = torch.optim.AdamW(painter.parameters(), lr=2e-3)
    losses = []
    for _ in range(25):
        loss = ((painter.predict(example, texts) - example.target).square() * example.weight).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_texts_are_encoded_once_each_and_put_back_in_order(painter: Painter) -> None:
    with torch.no_grad():
        states = painter.encode_text(["", "red", "", "blue"])
        alone = painter.encode_text(["blue"])
    assert torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[1])
    torch.testing.assert_close(states[3:], alone)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(rates[10]) == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)


def test_the_level_rate_falls_only_at_the_end() -> None:
    rates = [plateau_rate(step, 100, 1.0, warm_up=10, cool_down=20) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:81] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5)
    assert rates[100] == 0.0


def test_what_reads_the_prompt_learns_faster(painter: Painter) -> None:
    groups = painter.parameter_groups(3.0)
    optimizer = torch.optim.AdamW(groups)
    set_learning_rate(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.3])
    counts = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    assert sum(counts) == sum(p.numel() for p in painter.parameters())
    assert counts[1] >= sum(p.numel() for p in painter.text_encoder.parameters())


def test_a_run_can_begin_from_the_averaged_weights_of_another(
    painter: Painter, corpus: Corpus, space: LatentSpace, tmp_path: Path
) -> None:
    first = _run(painter, corpus, space, tmp_path / "first")
    source = Source.of(corpus, space, UNET)
    begun = train_unet(source, painter, tmp_path / "second", UNET, 0, tmp_path / "first/checkpoint.pt")
    assert begun.step == 0
    assert all(torch.equal(value, first[f"mean.{name}"]) for name, value in painter.unet.state_dict().items())


def test_a_lost_edge_costs_more_than_the_same_error_spread_evenly() -> None:
    image = torch.zeros(1, 3, 8, 8)
    even, edge = image + 0.5, image.clone()
    edge[..., ::2] = 1.0
    assert reconstruction_loss(edge, image, 0.5) > reconstruction_loss(even, image, 0.5)
