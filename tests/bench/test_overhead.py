"""The overhead bench: its arithmetic, its photos, and the command itself in small."""

import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bench.overhead import HTTP, MODEL_PHASES, Answer, comparison, jpeg_edit, photo_and_mask, report


def answer(wall: float, **phases: float) -> Answer:
    spent = dict.fromkeys((*MODEL_PHASES, "decode", "crop", "png", "store"), 0.0) | phases
    return Answer(wall, {**spent, "total": sum(spent.values()), "steps": 4, "step_p50": 1.0, "batch_mean": 1.0})


def test_the_parts_add_up_to_the_callers_wall_time() -> None:
    parts = answer(100, decode=5, crop=10, denoise=60, png=4).parts()
    assert sum(parts.values()) == 100 and parts[HTTP] == 21


def test_overhead_is_all_but_the_networks() -> None:
    record = report([answer(100, decode=5, denoise=60, vae_decode=20)])
    assert record.rows[-1] == ["overhead", "20.0", "20.0"]
    assert record.notes == ["Overhead is 20.0 % of the request (p50), 20.0 % (p95)."]


def test_photos_are_compared_by_medians_with_decoding_and_png_apart() -> None:
    small = [answer(100, decode=5, crop=10, denoise=70, png=4)] * 3
    large = [answer(900, decode=300, crop=20, denoise=70, png=300, store=store) for store in (5, 10, 500)]
    record = comparison(["1024x1024", "6000x4000"], [small, large])
    assert ["decode", "5.0", "300.0"] in record.rows
    assert record.notes == ["Decode and PNG apart, 6000x4000 costs 1.25x the edit of 1024x1024."]


@pytest.mark.parametrize("size", [(96, 64), (640, 480)])
def test_photos_of_any_size_have_the_same_mask(size: tuple[int, int]) -> None:
    edit = jpeg_edit(size, (8, 16, 40, 48))
    with Image.open(io.BytesIO(edit.photo)) as photo, Image.open(io.BytesIO(edit.mask)) as mask:
        assert (photo.format, photo.size, mask.size) == ("JPEG", size, size)
        assert np.argwhere(np.asarray(mask)).min(0).tolist() == [16, 8]
        assert np.count_nonzero(np.asarray(mask)) == 32 * 32


def test_a_sixth_of_the_square_photo_is_masked() -> None:
    photo, mask = photo_and_mask(120)
    with Image.open(io.BytesIO(photo)) as image, Image.open(io.BytesIO(mask)) as hole:
        assert (image.format, image.size) == ("PNG", (120, 120))
        assert np.count_nonzero(np.asarray(hole)) / np.asarray(hole).size == pytest.approx(0.175)


def test_the_command_prints_what_the_larger_photo_costs_more() -> None:
    command = ["-m", "bench.overhead", "--photos", "256x256", "640x480", "--requests", "1", "--steps", "1"]
    ended = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=400, check=True)
    assert re.search(r"^\| png \| \d+\.\d \| \d+\.\d \|$", ended.stdout, re.MULTILINE)
    assert re.search(r"640x480\scosts\s\d+\.\d\dx\sthe\sedit\sof\s256x256\.", ended.stdout)
