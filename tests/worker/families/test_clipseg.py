"""CLIPSeg against transformers: the same logits and the same mask, from files that transformers has written."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from jobs.errors import BadModel, MaskNotFound, NotFinite
from jobs.schema import FindMask
from jobs.segmenters import SegmenterEntry
from tests.factories import noise, png
from tests.worker import segmenters
from worker.engine.finding import SEEN_PX, Search, score_of, seen
from worker.families.clipseg import ClipSeg, read_clipseg
from worker.pixels.pictures import decode, decode_mask

PHOTO = noise((60, 90, 3), seed=3)
WANTED = FindMask(model="seg", prompt=segmenters.WORDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmenters.save(tmp_path_factory.mktemp("seg"), PHOTO)


@pytest.fixture
def segmenter(folder: Path) -> ClipSeg:
    return read_clipseg("seg", SegmenterEntry(network="clipseg", source=str(folder)))


@pytest.mark.parametrize("prompt", [segmenters.WORDS, "dog", "?! ü"])
def test_logits_and_mask_are_those_of_transformers(folder: Path, segmenter: ClipSeg, prompt: str) -> None:
    network = CLIPSegForImageSegmentation.from_pretrained(folder)
    expected = segmenters.logits_of(network, CLIPSegProcessor.from_pretrained(folder), PHOTO, prompt)
    found = segmenter.find(PHOTO, prompt)
    assert np.array_equal(found, expected.numpy())
    if (expected > 0).any():
        whole = F.interpolate(expected[None, None], PHOTO.shape[:2], mode="bilinear", align_corners=False)[0, 0]
        sure = np.asarray(whole.abs() > 1e-4)  # OpenCV rounds otherwise
        mask = Search(WANTED, 0).settle(found, (90, 60))
        assert sure.mean() > 0.99 and np.array_equal(mask[sure], np.asarray(whole > 0)[sure] * np.uint8(255))


def test_what_the_words_name_and_all_but_it_are_the_two_sides_of_one_edge(segmenter: ClipSeg) -> None:
    logits = segmenter.find(PHOTO, segmenters.WORDS)
    inside = Search(WANTED, 0.6)
    mask = inside.settle(logits, (90, 60))
    other = Search(WANTED.model_copy(update={"subject": "background"}), 0.6).settle(logits, (90, 60))
    assert np.array_equal(mask, 255 - other) and 0.1 < (mask > 0).mean() < 0.6
    assert inside.png is not None and inside.score == score_of(logits) > 0.8
    assert np.array_equal(decode_mask(inside.png), mask)


@pytest.mark.parametrize(
    ("logits", "least", "subject", "sentence"),
    [
        (-1.0, 0.0, "foreground", "with a score of 0.2689; 0.5 is needed"),
        (1.0, 0.9, "foreground", "with a score of 0.7311; 0.9 is needed"),
        (1.0, 0.6, "background", "mask_subject=background, 'red car' leaves nothing to repaint; its score is 0.7311"),
    ],
)
def test_an_empty_or_doubtful_answer_is_no_mask(logits: float, least: float, subject: str, sentence: str) -> None:
    search = Search(FindMask.model_validate({**WANTED.model_dump(), "subject": subject}), least)
    with pytest.raises(MaskNotFound, match=sentence):
        search.settle(np.full((8, 8), logits, np.float32), (20, 10))
    assert search.png is None


def test_logits_far_from_zero_have_a_score() -> None:
    with np.errstate(all="raise", under="ignore", over="ignore"):
        assert score_of(np.full((1, 1), 1e4)) == 1 and score_of(np.full((1, 1), -1e4)) == 0


def test_more_words_than_it_reads_are_refused_not_cut(segmenter: ClipSeg) -> None:
    with pytest.raises(MaskNotFound, match="it has 17 tokens, and segmenter 'seg' reads 16"):
        segmenter.find(PHOTO, "a" * 15)
    assert segmenter.find(PHOTO, "a" * 14).shape == (segmenters.SIDE, segmenters.SIDE)


def test_logits_that_are_no_numbers_fail(segmenter: ClipSeg) -> None:
    with torch.no_grad():
        segmenter.network.decoder.transposed_convolution.bias.fill_(float("nan"))
    with pytest.raises(NotFinite):
        segmenter.find(PHOTO, "dog")


def test_a_large_photo_is_shown_shrunk_and_what_is_transparent_as_grey() -> None:
    large = decode(png(noise((30, 2 * SEEN_PX, 3))))
    assert seen(large).shape == (15, SEEN_PX, 3)
    assert seen(decode(png(noise((1, 3 * SEEN_PX, 3))))).shape == (1, SEEN_PX, 3)
    pixels = np.dstack([noise((9, 9, 3)), np.zeros((9, 9), np.uint8)])
    assert (seen(decode(png(pixels))) == 128).all()


def test_what_is_no_such_network_or_a_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    def refused(source: Path, match: str) -> None:
        with pytest.raises(BadModel, match=match):
            read_clipseg("seg", SegmenterEntry(network="clipseg", source=str(source)))

    refused(tmp_path / "nothing", r"Segmenter 'seg' \(")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (pickled / file.name).write_bytes(file.read_bytes())
    torch.save(segmenters.network().state_dict(), pickled / "pytorch_model.bin")
    refused(pickled, "safetensors")
    other = tmp_path / "other"
    segmenters.network().clip.save_pretrained(other)
    segmenters.processor().save_pretrained(other)
    refused(other, "its files lack decoder")
