"""The profile of a model, and what the engine makes of it: real networks on a device of a known law."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from jobs.speed import Speed, speed_at
from tests.worker import slow_device, tiny
from tests.worker.runs import canvas, no_clock, parameters
from tests.worker.slow_device import Clock, entry, on_device
from worker.denoise.state import DenoiseState
from worker.engine import profile as profiling
from worker.engine.engine import Engine
from worker.engine.profile import by_cost, profile, sweep
from worker.families.latent_diffusion import LatentDiffusion

pytestmark = pytest.mark.usefixtures("batches_whole", "clock")


class StartsSlowly(torch.nn.Module):
    """A network whose first passes take these seconds longer, as on a GPU that loads its kernels."""

    def __init__(self, network: torch.nn.Module, delays_s: Iterator[float]) -> None:
        super().__init__()
        self.network, self.delays_s = network, delays_s

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        slow_device.sleep(next(self.delays_s, 0.0))
        return self.network(*args, **kwargs)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else this machine does, and how slow it is, changes nothing that is measured here."""
    clock = Clock()
    for module in (slow_device, profiling):
        monkeypatch.setattr(module, "time", clock)


def speeds(best_rows: float | None, row_s: float = 0.1, size_px: int = 64) -> list[Speed]:
    return [Speed(area_px=size_px**2, pass_s=row_s, row_s=row_s, codec_s=0.1, best_rows=best_rows)]


# ---- measuring


def test_the_knee_is_the_fewest_rows_that_come_within_a_tenth_of_the_best_rate() -> None:
    found = sweep(lambda rows: {1: 0.1, 2: 0.1, 4: 0.11, 8: 0.21, 16: 0.5}[rows], max_rows=32, budget_s=60)
    assert found.best_rows == 4  # 36.4 rows a second; 8 make 38.1
    assert found.row_s == pytest.approx(0.21 / 8)


def test_the_search_ends_when_two_doublings_bring_less_than_a_tenth() -> None:
    asked: list[int] = []

    def pass_s(rows: int) -> float:
        asked.append(rows)
        return 0.1 * rows

    assert sweep(pass_s, max_rows=64, budget_s=60).best_rows == 1
    assert max(asked) == 4


def test_a_pass_slowed_down_by_something_else_does_not_make_a_knee() -> None:
    hiccup = iter([1.0, 1.0])

    def pass_s(rows: int) -> float:
        return next(hiccup, 0.1) if rows == 2 else 0.1

    assert sweep(pass_s, max_rows=8, budget_s=60).best_rows == 8


def test_without_time_to_find_it_there_is_no_knee() -> None:
    assert sweep(lambda _: 5.0, max_rows=8, budget_s=1.0).best_rows is None


def test_no_more_rows_are_tried_than_the_device_has_memory_for() -> None:
    model, device = on_device(0.02, 0.0, rows=4)
    (speed,) = profile(model, entry(), max_rows=32, budget_s=30)
    assert speed.best_rows == 4 and max(device.sizes) == 8


def test_a_model_is_profiled_at_its_native_and_its_largest_size() -> None:
    model, device = on_device(0.2, 0.05)
    small, large = profile(model, entry(64, 128), max_rows=16, budget_s=60)
    assert (small.area_px, large.area_px) == (64 * 64, 128 * 128)
    assert (small.best_rows, large.best_rows) == (4, 1)
    assert small.pass_s == pytest.approx(0.2, rel=0.01) and small.row_s == pytest.approx(0.05, rel=0.01)
    assert max(device.sizes) == 16  # two doublings beyond the best_rows
    assert small.codec_s > 0


def test_a_size_for_which_there_is_no_time_is_not_measured() -> None:
    model, device = on_device(0.1, 0.1)
    (speed,) = profile(model, entry(64, 128), max_rows=16, budget_s=0.5)
    assert speed.area_px == 64 * 64
    assert len(device.sizes) <= 6  # 0.25 s, and a warm-up


def test_a_model_too_slow_to_be_measured_costs_two_small_images_and_is_left_to_its_jobs() -> None:
    model, device = on_device(0.3, 0.0)
    assert profile(model, entry(256, 512), max_rows=16, budget_s=0.2) == []
    assert (device.sizes, device.sides) == ([1, 1], [64, 64])


def test_a_slow_network_that_gains_nothing_from_two_rows_runs_alone() -> None:
    """As SDXL, SD3 and FLUX at 1024 px: the budget in seconds is over after a pass or two."""
    model, device = on_device(0.0, 0.3)
    (speed,) = profile(model, entry(64, 512), max_rows=16, budget_s=0.2)
    assert device.sizes == [1, 1, 1, 1, 2, 2]
    assert (speed.area_px, speed.best_rows) == (64 * 64, 1)
    assert speed.pass_s >= 0.3 and speed.codec_s > 0


def test_a_network_whose_two_rows_would_take_too_long_is_measured_by_what_was_run() -> None:
    model, device = on_device(0.0, 0.43)
    (speed,) = profile(model, entry(128, 512), max_rows=16, budget_s=1.5)
    assert device.sides == [64, 128]
    assert (speed.area_px, speed.best_rows) == (128 * 128, None) and speed.pass_s >= 1.7


def test_a_largest_size_without_room_leaves_what_was_measured_at_the_native_one() -> None:
    model, device = on_device(0.0, 0.0)

    def look(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[-1] > 8:
            raise torch.OutOfMemoryError("out of memory")

    device.register_forward_pre_hook(look)
    (speed,) = profile(model, entry(64, 128), max_rows=2, budget_s=60)
    assert speed.area_px == 64 * 64 and speed.best_rows


def test_a_measurement_that_was_cut_off_counts_if_the_last_doubling_brought_little() -> None:
    assert sweep(lambda rows: 2.0 * rows, max_rows=32, budget_s=1.0).best_rows == 1
    assert sweep(lambda rows: 2.0 + rows / 10, max_rows=32, budget_s=1.0).best_rows is None


def test_the_first_call_of_everything_does_not_make_a_model_slow() -> None:
    model, device = on_device(0.0, 0.0)
    model.network = StartsSlowly(device, iter([1.0]))
    paces_found = profile(model, entry(256, 256), max_rows=2, budget_s=1.0)
    assert device.sides[:3] == [64, 64, 256] and paces_found[0].area_px == 256 * 256


def test_a_model_that_cannot_be_run_has_no_profile_and_no_error() -> None:
    model, _ = on_device(0.0, 0.0, rows=0)
    assert profile(model, entry(), max_rows=4) == []


def test_a_knee_that_was_found_at_one_size_only_goes_by_the_cost_at_the_other() -> None:
    (small,), (large,) = speeds(8, 0.1), speeds(None, 0.4, size_px=128)
    assert [speed.best_rows for speed in by_cost([small, large])] == [8, 2]
    assert [speed.best_rows for speed in by_cost([small.model_copy(update={"best_rows": None}), large])] == [None, None]


# ---- between the sizes


def test_between_two_sizes_costs_follow_a_power_of_the_area() -> None:
    (small,), (large,) = speeds(16, 0.1), speeds(4, 0.4, size_px=128)
    between = speed_at([small, large], 64 * 128)
    assert between.row_s == pytest.approx(0.2) and between.best_rows == pytest.approx(8)
    assert speed_at([small, large], 64 * 64) == small
    assert speed_at([small, large], 128 * 128).row_s == pytest.approx(0.4)


def test_beyond_one_size_a_cost_grows_as_the_area_and_the_knee_falls_as_it() -> None:
    far = speed_at(speeds(8), 4 * 64 * 64)
    assert far.row_s == pytest.approx(0.4) and far.best_rows == pytest.approx(2)


# ---- in the engine


def states_of(model: LatentDiffusion, count: int, guidance: float) -> list[DenoiseState]:
    return [
        model.prepare(canvas(), parameters("ddim", 1.0, seed, guidance), no_clock)[0] for seed in range(1, count + 1)
    ]


@pytest.mark.parametrize(("guidance", "images"), [(1.0, 4), (3.0, 2)])
def test_a_pass_has_as_many_rows_as_are_worth_it_guidance_counted(guidance: float, images: int) -> None:
    model, device = on_device(0.0, 0.0)
    engine = Engine({"tiny": model}, max_rows=16, speeds={"tiny": speeds(4)})
    engine.join(states_of(model, 5, guidance))
    assert len(engine.step()) == images
    assert device.sizes == [4]


@pytest.mark.parametrize(("max_rows", "measured", "images"), [(3, speeds(16), 3), (4, speeds(None), 4), (4, [], 4)])
def test_the_setting_stays_the_upper_bound(max_rows: int, measured: list[Speed], images: int) -> None:
    model, _ = on_device(0.0, 0.0)
    engine = Engine({"tiny": model}, max_rows, speeds={"tiny": measured})
    engine.join(states_of(model, 5, guidance=1.0))
    assert len(engine.step()) == images


def test_a_pass_of_two_rows_is_always_allowed() -> None:
    model, _ = on_device(0.0, 0.0)
    engine = Engine({"tiny": model}, max_rows=8, speeds={"tiny": speeds(1)})
    plain, guided = states_of(model, 3, guidance=1.0), states_of(model, 3, guidance=3.0)
    assert (engine.limit(plain[0].key), engine.limit(guided[0].key)) == (2, 1)


def test_with_caps_every_image_of_every_bucket_is_stepped_and_none_waits_for_another_to_end() -> None:
    model = tiny.model("sd", "concat")
    engine = Engine({"tiny": model}, max_rows=16, speeds={"tiny": speeds(2)})
    plain, guided = states_of(model, 6, guidance=1.0), states_of(model, 2, guidance=3.0)
    engine.join([*plain, *guided])
    spread = []
    while engine.live:
        engine.step()
        counts = [state.index for state in (*plain, *guided)]
        spread.append(max(counts) - min(counts))
    assert max(spread) == 1  # three passes of two plain ones, two of one guided one: then all are a step further
    assert all(state.done and not state.error for state in (*plain, *guided))
