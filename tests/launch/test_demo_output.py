from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infill_client import Job
from launch.progress import progress_text
from launch.side_by_side import BAND_PX, GAP_PX, changed_in_photo, changed_outside_mask, write_side_by_side
from launch.table import timing_table
from tests.factories import mask_with, noise
from tests.infill_client.jobs import JOB


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Photo, mask (left half) and a result that differs inside the mask only."""
    photo = noise((40, 60, 3))
    mask = mask_with(np.s_[:, :30], (40, 60))
    result = photo.copy()
    result[:, :30] ^= 255
    paths = tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / "result.png"
    for path, array in zip(paths, (photo, mask, result), strict=True):
        Image.fromarray(array).save(path)
    return paths


def test_changes_inside_the_mask_do_not_count_and_each_one_outside_does(pictures: tuple[Path, Path, Path]) -> None:
    photo, mask, result = pictures
    assert changed_outside_mask(photo, mask, result) == 0
    after = np.asarray(Image.open(result)).copy()
    after[5, 40] ^= 1
    after[6, 41] ^= 1
    Image.fromarray(after).save(result)
    assert changed_outside_mask(photo, mask, result) == 2


def test_a_result_of_another_size_counts_as_changed_everywhere(pictures: tuple[Path, Path, Path]) -> None:
    photo, mask, result = pictures
    Image.open(result).resize((30, 20)).save(result)
    assert changed_outside_mask(photo, mask, result) == 40 * 60


def test_each_pixel_of_an_extended_photo_that_has_changed_counts(
    pictures: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    photo, extended = pictures[0], tmp_path / "extended.png"
    wider = np.pad(np.asarray(Image.open(photo)), ((4, 0), (5, 2), (0, 0)))
    Image.fromarray(wider).save(extended)
    assert changed_in_photo(photo, extended, left=5, top=4) == 0
    assert changed_in_photo(photo, extended, left=4, top=4) > 0
    assert changed_in_photo(photo, extended, left=8, top=4) == 40 * 60, "it does not fit there"
    wider[4, 5] ^= 1
    wider[0, 0] ^= 1
    Image.fromarray(wider).save(extended)
    assert changed_in_photo(photo, extended, left=5, top=4) == 1


def test_before_removed_and_extended_stand_side_by_side(pictures: tuple[Path, Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "before-after.png"
    write_side_by_side(*pictures, pictures[0], target)
    sheet = np.asarray(Image.open(target))
    assert sheet.shape == (40 + BAND_PX, 180 + 2 * GAP_PX, 3)
    assert np.array_equal(sheet[BAND_PX:, 60 + GAP_PX : 120 + GAP_PX], np.asarray(Image.open(pictures[2])))
    assert np.array_equal(sheet[BAND_PX:, 120 + 2 * GAP_PX :], np.asarray(Image.open(pictures[0])))
    assert np.array_equal(sheet[BAND_PX:, 32:60], np.asarray(Image.open(pictures[0]))[:, 32:])


def test_the_table_has_every_phase_and_its_share() -> None:
    timings = {
        "queue": 10.0,
        "denoise": 80.0,
        "png": 10.0,
        "total": 100.0,
        "steps": 20,
        "step_p50": 4.0,
        "batch_mean": 1.5,
    }
    lines = timing_table(timings).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["queue", "10.0", "10.0%"],
        ["denoise", "80.0", "80.0%"],
        ["png", "10.0", "10.0%"],
    ]
    assert lines[4].split() == ["sum", "100.0", "100.0%"]
    assert lines[6].startswith("20 steps, median step 4.0 ms, 1.5 images")


def test_the_progress_line_says_step_and_time_to_go() -> None:
    job = Job.model_validate(JOB | {"status": "running", "progress": {"step": 5, "steps": 20, "eta_ms": 1500.0}})
    assert progress_text(job) == f"running    [{'#' * 7}{'.' * 23}]   5/20  1.5 s to go"
