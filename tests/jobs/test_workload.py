"""What a request asks of a network, and its cost."""

from typing import Any

import pytest

from jobs.catalog import ModelEntry
from jobs.eta import Workload, cost_of, workload_of
from jobs.schema import InpaintParameters
from jobs.speed import Speed
from tests.factories import inpaint_parameters, model_entry

ENTRY = model_entry(num_inference_steps=20, size_px=256, max_size_px=512)
BOX = (100, 100, 200, 200)
SPEED = [Speed(area_px=256 * 256, pass_s=0.1, row_s=0.05, codec_s=0.2)]


def asked(**fields: Any) -> InpaintParameters:
    return inpaint_parameters(**{"model": "m", "num_inference_steps": 20, **fields})


def work(entry: ModelEntry = ENTRY, **fields: Any) -> Workload:
    return workload_of(asked(**fields), entry, (1000, 800), BOX)


def test_a_plain_request_is_one_row_a_step_on_the_smallest_canvas() -> None:
    assert work() == Workload(model="m", area_px=256 * 256, calls=20, rows=1, images=1)


@pytest.mark.parametrize(
    ("fields", "calls", "rows"),
    [
        ({"strength": 0.3}, 6, 1),
        ({"scheduler": "heun"}, 39, 1),
        ({"scheduler": "heun", "strength": 0.5}, 19, 1),
        ({"cache_interval": 2}, 11, 1),  # ten full calls, and ten at a tenth
        ({"cache_interval": 2, "strength": 0.3}, 3.3, 1),
        ({"n": 3}, 20, 3),
        ({"guidance_scale": 4.0, "prompt": "a cat"}, 20, 2),
        ({"guidance_scale": 4.0, "prompt": "a cat", "n": 3}, 20, 6),
        ({"guidance_scale": 4.0}, 20, 1),  # both prompts are empty: nothing to compute
    ],
)
def test_steps_strength_order_guidance_and_images_count(fields: dict[str, Any], calls: float, rows: int) -> None:
    found = work(**fields)
    assert (found.calls, found.rows) == (calls, rows)


def test_the_canvas_is_that_of_the_grown_mask_with_its_surroundings() -> None:
    assert work(mask_grow=40, mask_feather=30).area_px == 384 * 384
    assert work(crop_padding=100).area_px == 384 * 384
    assert work(crop="off").area_px == 512 * 448


def test_a_network_that_is_told_its_guidance_makes_no_second_row() -> None:
    flux = ENTRY.model_copy(update={"family": "flux", "scheduler": "flow_euler"})
    assert work(flux, guidance_scale=4.0, prompt="a cat", scheduler="flow_euler").rows == 1


def test_in_full_batches_a_job_costs_its_rows_and_alone_its_passes() -> None:
    cost = cost_of(work(), SPEED)
    assert (cost.batched_s, cost.alone_s) == pytest.approx((20 * 0.05 + 0.2, 20 * 0.1 + 0.2))
    eight = cost_of(work(n=8), SPEED)
    assert eight.batched_s == eight.alone_s == pytest.approx(20 * 8 * 0.05 + 8 * 0.2)


def test_what_is_done_no_longer_costs() -> None:
    left = cost_of(work(), SPEED, share_done=0.75, around=0.5)
    assert (left.batched_s, left.alone_s) == pytest.approx((5 * 0.05 + 0.1, 5 * 0.1 + 0.1))


def test_a_larger_canvas_costs_more() -> None:
    assert cost_of(work(crop="off"), SPEED).batched_s == pytest.approx(
        cost_of(work(), SPEED).batched_s * 512 * 448 / 256**2
    )


def test_work_with_a_field_of_a_later_version_can_be_read() -> None:
    assert Workload.model_validate_json(work().model_dump_json()[:-1] + ', "colour": "red"}') == work()
