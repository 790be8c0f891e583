"""A job of several passes: a shrunk one, then tiles. What it promises is what a job of one pass promises."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.schema import Extension, JobReport, Tiles
from jobs.speed import Speed
from tests.factories import mask_with, model_entry, noise, png
from tests.worker import tiny
from tests.worker.painting import Pixels
from tests.worker.tasks import STEPS, task_of
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.pixels import masks

SIZES: dict[str, Any] = {"size_px": 64, "max_size_px": 64}
ENTRY = model_entry(num_inference_steps=STEPS, guidance_scale=3.0, scheduler="ddim", **SIZES)
TILES = Tiles(count=99, strength=0.5)
EACH = STEPS // 2  # steps of a tile
PHOTO = noise((120, 150, 3), seed=5)
HOLE = np.zeros((120, 150), np.uint8)
cv2.ellipse(HOLE, (80, 60), (50, 35), 0, 0, 360, 255, -1)
UPLOADS: dict[Any, bytes] = {"image": png(PHOTO), "mask": png(HOLE)}


def tiled(seed: int = 1, **asked: Any) -> Task:
    return task_of(ENTRY, str(seed), **{"seed": seed, "prompt": "cat", "tiles": TILES, **asked})


def session(family: str = "sd", mode: str = "concat", speeds: Any = None) -> Session:
    return Session(Engine({"tiny": tiny.model(family, mode)}, max_rows=8, speeds=speeds), codec_threads=1)


def run(*tasks: Task, on: Session | None = None) -> None:
    on = on or session()
    for one in tasks:
        on.take(one, UPLOADS)
    on.run(list(tasks))
    on.shutdown()
    for one in tasks:
        if isinstance(one.outcome, Exception):
            raise one.outcome


def pixels(one: Task, index: int = 0) -> Pixels:
    with Image.open(io.BytesIO(one.images[index])) as image:
        return np.asarray(image)


def difference(one: Task, other: Task, index: int = 0) -> int:
    """The largest, in levels: floating-point sums of a batch are rounded otherwise than those of one image."""
    return int(np.abs(pixels(one, index).astype(int) - pixels(other)).max())


def report(one: Task) -> JobReport:
    assert isinstance(one.outcome, JobReport)
    return one.outcome


# ---- with any picture and mask, and one grey in place of what a network would paint

FIRST, LATER = 60, 190


def repainted(photo: Pixels, mask: Pixels, **asked: Any) -> tuple[Task, list[Pixels]]:
    one = tiled(**asked)
    canvases = one.open({"image": png(photo), "mask": png(mask)})
    while True:
        shape = (one.parameters.n, *canvases[0].image.shape)
        painted = np.full(shape, LATER if one.begun else FIRST, np.uint8)
        if not one.has_more:
            break
        one.leave_pass()
        canvases = one.go_on(painted)
        assert len(canvases) == one.parameters.n
    one.outcome = one.close(painted)
    return one, [pixels(one, index) for index in range(one.parameters.n)]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Pixels, Pixels]:
    width, height = draw(st.integers(2, 260)), draw(st.integers(2, 260))
    channels = draw(st.sampled_from([1, 3, 4]))
    photo = noise((height, width, channels), seed=draw(st.integers(0, 99)))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        box = np.s_[top : top + draw(st.integers(1, 200)), left : left + draw(st.integers(1, 200))]
        mask[box] = draw(st.sampled_from([40, 130, 255]))
    mask[0, 0] = 0
    if not (mask > 100).any():
        mask[-1, -1] = 255
    return photo if channels > 1 else photo[..., 0], mask


@settings(max_examples=60, deadline=None)
@given(scenes(), st.integers(0, 20), st.integers(0, 20), st.sampled_from(["auto", "off"]), st.integers(1, 2))
def test_outside_the_mask_every_byte_is_the_photos_and_inside_every_pixel_is_a_tiles(
    scene: tuple[Pixels, Pixels], grow: int, feather: int, crop: str, n: int
) -> None:
    photo, mask = scene
    one, results = repainted(photo, mask, mask_grow=grow, mask_feather=feather, crop=crop, n=n)
    outside, inside = one.mask == 0, one.mask == 255
    for result in results:
        np.testing.assert_array_equal(result[outside], photo[outside])
        value = LATER if one.tiles else FIRST
        colours = result[inside][..., :3] if result.ndim == 3 else result[inside]
        assert (colours == value).all()
        if photo.ndim == 3 and photo.shape[2] == 3:  # a grey mask mixes once, also where tiles overlap
            expected = masks.blended(photo, np.full_like(photo, value), one.mask)
            np.testing.assert_array_equal(result, expected)
    assert report(one).mask.changed_outside_mask == 0
    assert ("shrunk" in (report(one).approximate or [])) is False


def test_a_large_extension_keeps_the_photo_to_the_byte_and_paints_all_of_its_borders() -> None:
    extension = Extension(left=0, top=20, right=170, bottom=0, width=240, height=100)
    mask = np.full((100, 240), 255, np.uint8)
    mask[20:, :70] = 0
    photo = noise((80, 70, 3))
    one, (result,) = repainted(photo, mask, task="extend", extend=extension)
    assert len(one.tiles) > 4 and report(one).approximate == []
    np.testing.assert_array_equal(result[20:, :70], photo)
    assert (result[mask == 255] == LATER).all()


def test_what_earlier_passes_painted_is_what_a_tile_is_shown() -> None:
    one = tiled()
    (canvas,) = one.open(UPLOADS)
    one.leave_pass()
    (shown,) = one.go_on(np.full((1, *canvas.image.shape), FIRST, np.uint8))
    left, top, right, bottom = one.region.box
    hole = HOLE[top:bottom, left:right] == 255
    assert (shown.image[hole] == FIRST).all() and (shown.mask[hole] == 255).all()
    np.testing.assert_array_equal(shown.image[~hole], PHOTO[top:bottom, left:right][~hole])
    one.leave_pass()
    (later,) = one.go_on(np.full((1, *shown.image.shape), LATER, np.uint8))
    left, top, right, bottom = one.region.box
    known = (HOLE[top:bottom, left:right] == 255) & (later.mask == 0)
    assert known.any() and (later.image[known] == LATER).all()
    assert {one.region.canvas, *(tile.canvas for tile in one.tiles)} == {(64, 64)}


def test_a_tile_that_is_nothing_but_hole_needs_no_surroundings() -> None:
    photo, mask = noise((260, 260, 3)), mask_with(np.s_[10:250, 10:250], (260, 260))
    model, entry = tiny.model("sd", "concat"), ENTRY
    one = task_of(entry, seed=1, prompt="cat", tiles=TILES, masked_content="fill", num_inference_steps=2)
    on = Session(Engine({"tiny": model}, max_rows=8), codec_threads=1)
    on.take(one, {"image": png(photo), "mask": png(mask)})
    on.run([one])
    on.shutdown()
    assert report(one).region and len(one.tiles) >= 25


# ---- with a network


@pytest.mark.parametrize(("family", "mode"), [("sd", "concat"), ("sd", "recompose"), ("flux", "concat")])
def test_every_step_of_every_pass_is_counted_and_the_times_add_up(family: str, mode: str) -> None:
    scheduler = next(iter(tiny.FAMILIES[family].schedulers))
    entry = model_entry(family=family, num_inference_steps=STEPS, guidance_scale=3.0, scheduler=scheduler, **SIZES)
    one, on = task_of(entry, seed=1, prompt="cat", tiles=TILES), session(family, mode)
    assert (one.step, one.steps) == (0, STEPS + 99 * EACH)
    on.take(one, UPLOADS)
    seen = []
    while one.outcome is None:
        on.turn()
        seen.append((one.step, one.steps))
    on.shutdown()
    count = len(one.tiles)
    total = STEPS + count * EACH
    assert count > 3 and seen == sorted(seen) and set(seen[STEPS:]) <= {(step, total) for step in range(total + 1)}
    assert {step for step, _ in seen} >= set(range(1, total + 1))
    found = report(one)
    assert found.timings.steps == total and found.region and found.region.tiles == count and found.region.scale < 1
    parts = found.timings.model_dump(exclude={"total", "steps", "step_p50", "batch_mean"})
    assert sum(parts.values()) == pytest.approx(found.timings.total, abs=0.1)


def test_previews_go_on_with_the_part_that_a_tile_paints() -> None:
    one, on = tiled(), session()
    one.previews.wanted = True
    on.take(one, UPLOADS)
    found = []
    while one.outcome is None:
        on.turn()
        if one.previews.encoding:
            one.previews.encoding.exception()  # waits
        if preview := one.previews.encoded():
            found.append(preview)
    on.shutdown()
    assert len(found) > 5 and [each.step for each in found] == sorted({each.step for each in found})
    assert {each.steps for each in found} == {one.steps}
    assert {each.box for each in found} > {one.passes[0].box} and {each.box for each in found} <= {
        each.box for each in one.passes
    }


def test_off_is_what_it_was_and_says_shrunk() -> None:
    one = tiled(tiles=None)
    run(one)
    found = report(one)
    assert found.approximate == ["shrunk"] and found.region and found.region.tiles == 0
    assert "tiles" not in found.region.model_dump() and found.timings.steps == STEPS


def test_a_hole_that_fits_is_run_once_whatever_was_promised() -> None:
    one, on = tiled(crop_padding=0), session()
    on.take(one, {"image": png(PHOTO), "mask": png(mask_with(np.s_[50:60, 50:60], PHOTO.shape[:2]))})
    on.run([one])
    on.shutdown()
    assert len(one.passes) == 1 and report(one).timings.steps == STEPS


def test_a_worker_whose_models_are_smaller_than_was_planned_for_runs_it_shrunk_and_says_so() -> None:
    one = tiled(tiles=Tiles(count=2, strength=0.5))
    run(one)
    assert report(one).approximate == ["shrunk"] and len(one.passes) == 1


def test_a_picture_is_the_same_alone_and_among_jobs_of_one_pass_and_of_several() -> None:
    alone = tiled(3)
    run(alone)
    on, mixed = session(), [tiled(3), tiled(4), task_of(ENTRY, "5", seed=5, prompt="dog"), tiled(6, n=2)]
    for _ in range(2):
        for one in mixed[:2] if not on.tasks else mixed[2:]:
            on.take(one, UPLOADS)
        for _ in range(5):
            on.turn()
    on.run(mixed)
    on.shutdown()
    assert difference(mixed[0], alone) <= 1 < difference(mixed[1], alone)
    assert report(mixed[0]).timings.batch_mean > 1


def test_image_k_of_n_is_the_one_of_seed_plus_k() -> None:
    both, second = tiled(3, n=2), tiled(4)
    run(both)
    run(second)
    assert difference(both, second, 1) <= 1 < difference(both, second, 0)


def test_a_job_that_is_dropped_between_two_passes_leaves_nothing_and_holds_nobody_up() -> None:
    on, gone, other = session(), tiled(1), tiled(2)
    for one in (gone, other):
        on.take(one, UPLOADS)
    while not (gone.begun and gone in on.opening):
        on.turn()
    on.drop(gone)
    assert gone not in on.tasks and not any(state in on.engine.live for state in gone.states)
    on.run([other])
    on.shutdown()
    assert gone.outcome is None and report(other).approximate == []


def test_a_job_keeps_its_tiles_and_no_more() -> None:
    one = tiled(n=2)
    run(one)
    assert one.painting
    kept = sum(canvases.nbytes for _, canvases in one.painting.tiles) + one.painting.canvases.nbytes
    assert kept <= len(one.passes) * 2 * 64 * 64 * 3
    assert one.states == [] or len(one.states) == 2


def test_what_is_left_of_a_job_falls_to_nothing_and_was_all_of_its_passes() -> None:
    speed = Speed(area_px=64 * 64, pass_s=1.0, row_s=1.0, codec_s=0.5)
    on, one = session(speeds={"tiny": [speed]}), tiled(guidance_scale=1.0)
    on.take(one, UPLOADS)
    on.opening[one].result()
    left = [on.speed(1, [one]).left[0].alone_s]
    while one.outcome is None:
        on.turn()
        left.append(on.speed(1, [one]).left[0].alone_s)
    on.shutdown()
    tiles = len(one.tiles)
    assert left[0] == pytest.approx((STEPS + 0.5) + tiles * (EACH + 0.5))
    assert left == sorted(left, reverse=True) and left[-1] == 0


def test_a_model_that_was_not_measured_is_by_the_first_pass_alone() -> None:
    speeds: dict[str, Any] = {}
    one = tiled()
    run(one, on=session(speeds=speeds))
    (speed,) = speeds["tiny"]
    spent = one.stopwatch.spent
    assert speed.area_px == one.passes[0].canvas[0] * one.passes[0].canvas[1]
    assert speed.pass_s * 2 * STEPS < spent["denoise"]
