"""A task's previews: made only where they are wanted, of bounded number and bytes, and at no cost to any picture."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.previews import MAX_BYTES, PREVIEWS, Preview, due
from jobs.regions import Region
from jobs.schema import JobReport
from tests.factories import mask_with, png
from tests.worker import tiny
from tests.worker.painting import POCKET, pocket
from tests.worker.tasks import task, task_of, uploads
from worker.denoise.state import DenoiseState
from worker.engine.engine import Engine
from worker.engine.previews import Previews, encode
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.latent_diffusion import LatentDiffusion

PHOTO = sorted((Path(__file__).parents[3] / "bench" / "photos").glob("*.png"))[0]


def previewed(session: Session, *tasks: Task) -> list[Preview]:
    """Run tasks to their ends; the previews that became ready on the way, the session's codec given time for each."""
    found = []
    while any(one.outcome is None for one in tasks):
        session.turn()
        for one in tasks:
            if one.previews.encoding:
                one.previews.encoding.exception()  # waits
            if preview := one.previews.encoded():
                found.append(preview)
    session.shutdown()
    return found


def session_of(model: LatentDiffusion) -> Session:
    return Session(Engine({"tiny": model, "pocket": model}, max_rows=8), codec_threads=1)


def run(*tasks: Task, change: Callable[[LatentDiffusion], None] = lambda _: None) -> list[Preview]:
    model = tiny.model("sd", "concat")
    change(model)
    session = session_of(model)
    for one in tasks:
        session.take(one, uploads())
    return previewed(session, *tasks)


@pytest.mark.parametrize(
    ("steps", "shown"), [(1, []), (2, [1]), (5, [1, 2, 3, 4]), (24, list(range(2, 24, 2))), (40, None)]
)
def test_previews_are_spaced_evenly_and_so_many_at_most(steps: int, shown: list[int] | None) -> None:
    one = task("sd", 1, num_inference_steps=steps)
    one.previews.wanted = True
    found = run(one)
    assert shown is None or [preview.step for preview in found] == shown
    assert len(found) <= PREVIEWS and {preview.steps for preview in found} <= {steps}


def test_a_scheduler_of_two_calls_a_step_has_its_previews_after_whole_steps() -> None:
    one = task("sd", 1, num_inference_steps=4, scheduler="heun")
    one.previews.wanted = True
    assert [preview.step for preview in run(one)] == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_two_or_three_previews_are_due_at_even_distances(count: int) -> None:
    steps = [step for step in range(1, 24) if due(step, 24, count) > due(step - 1, 24, count)]
    assert steps == [24 * k // (count + 1) for k in range(1, count + 1)]
    assert set(steps) <= {step for step in range(1, 24) if due(step, 24) > due(step - 1, 24)}


def test_nobody_who_does_not_ask_gets_one_and_no_state_keeps_an_estimate() -> None:
    seen: list[torch.Tensor | None] = []

    def watch(model: LatentDiffusion) -> None:
        predict = model.predict

        def predicted(states: list[DenoiseState]) -> torch.Tensor:
            seen.extend(state.estimate for state in states)
            return predict(states)

        model.predict = predicted  # type: ignore[method-assign, assignment]

    assert run(task("sd", 1), change=watch) == []
    assert seen and all(estimate is None for estimate in seen)


def test_pictures_are_the_same_with_and_without_previews_and_so_are_those_of_batch_mates() -> None:
    def pictures(*wanted: bool) -> list[bytes]:
        tasks = [task("sd", seed, n=2) for seed in (1, 2)]
        for one, wants in zip(tasks, wanted, strict=True):
            one.previews.wanted = wants
        assert bool(run(*tasks)) == any(wanted)
        return [np.asarray(Image.open(io.BytesIO(image))).tobytes() for one in tasks for image in one.images]

    without = pictures(False, False)
    assert pictures(True, False) == without
    assert pictures(True, True) == without


def test_a_preview_that_cannot_be_made_costs_its_task_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def broken(model: LatentDiffusion) -> None:
        model.vae.encoder.register_forward_hook(no_memory_for_samples)

    one = task("sd", 1)
    one.previews.wanted = True
    assert run(one, change=broken) == []
    assert isinstance(one.outcome, JobReport)
    assert [record.message for record in caplog.records] == ["no previews of job 1"]


def no_memory_for_samples(_: object, inputs: tuple[torch.Tensor], __: object) -> None:
    """The job's own canvas is of 64 px."""
    if inputs[0].shape[-1] > 64:
        raise RuntimeError("no memory")


def test_the_last_preview_of_the_pocket_model_has_the_colours_of_its_result() -> None:
    with Image.open(PHOTO) as image:
        photo = np.asarray(image.convert("RGB"))[:, :192]
    one = task_of(POCKET, model="pocket", prompt="red", num_inference_steps=8)
    one.previews.wanted = True
    session = session_of(cast(LatentDiffusion, pocket()))
    session.take(one, {"image": png(photo), "mask": png(mask_with(np.s_[60:140, 40:150], photo.shape[:2]))})
    last = previewed(session, one)[-1]
    shown = opened(last)
    assert (last.box, last.size, shown.size) == ((0, 0, 192, 256), (192, 256), (24, 32))
    result = Image.open(io.BytesIO(one.images[0])).resize(shown.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(result, float) - np.asarray(shown, float)).mean() < 10


def opened(preview: Preview) -> Image.Image:
    kind, _, data = preview.image.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("values", [(0, 256), (0, 2)])
def test_a_preview_of_the_largest_size_is_within_its_bytes_whatever_it_shows(values: tuple[int, int]) -> None:
    low, high = values
    pixels = np.random.default_rng(0).integers(low, high, (128, 128, 3)) * (255 // (high - 1))
    described = Preview(step=200, steps=200, box=(99999,) * 4, size=(99999, 99999), image="")
    whole = Region((0, 0, 1024, 1024), (1024, 1024), (0, 0, 1024, 1024))
    record = encode(torch.tensor(pixels, dtype=torch.uint8), whole, described).model_dump_json()
    assert MAX_BYTES / 2 < len(record) <= MAX_BYTES


def test_a_record_above_its_bytes_is_left_out() -> None:
    previews, session = Previews(), session_of(tiny.model("sd", "concat"))
    described = Preview(step=1, steps=2, box=(0, 0, 1, 1), size=(1, 1), image="x" * MAX_BYTES)
    previews.encoding = session.codec.submit(lambda: described)
    previews.encoding.result()
    assert previews.encoded() is None and previews.encoding is None
    session.shutdown()
