"""Whatever a request asks of a family, with whomever it runs, and whoever leaves: its promises are kept."""

import functools
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.errors import NoSurroundings
from jobs.families import FAMILIES as FACTS
from jobs.families import Family
from jobs.mask_values import hides_everything
from jobs.schedulers import SCHEDULERS
from jobs.schema import JobReport
from tests.factories import model_entry, png
from tests.worker import painters, tiny
from tests.worker.runs import FAMILY_MODES
from tests.worker.tasks import task_of
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.base import Family as LoadedModel
from worker.pixels import masks

Pixels = Any


ALL_FAMILIES = [*FAMILY_MODES, ("feedforward", "lama"), ("feedforward", "migan")]


@functools.cache
def loaded(name: Family, mode: str) -> LoadedModel:
    return painters.model("migan" if mode == "migan" else "lama") if name == "feedforward" else tiny.model(name, mode)


def requests(family: Family) -> st.SearchStrategy[dict[str, Any]]:
    fitting = [name for name, scheduler in SCHEDULERS.items() if family in scheduler.families]
    return st.fixed_dictionaries(
        {
            "model": st.just("tiny"),
            "prompt": st.one_of(st.text(max_size=12), st.text("ab ,", min_size=30, max_size=60)),
            "negative_prompt": st.sampled_from(["", "blur"]),
            "seed": st.integers(0, 2**32 - 2),
            "n": st.integers(1, 2),
            "num_inference_steps": st.integers(2, 3) if FACTS[family].denoises else st.just(1),
            "guidance_scale": st.sampled_from([0.0, 1.0, 4.0]),
            "strength": st.sampled_from([1.0, 0.9999, 0.6, 0.1]),
            "scheduler": st.sampled_from(fitting),
            "cache_interval": st.integers(1, 3 if FACTS[family].caches_features else 1),
            "masked_content": st.sampled_from(["original", "noise", "fill"]),
            "crop": st.sampled_from(["auto", "off"]),
            "crop_padding": st.integers(0, 40),
            "mask_grow": st.integers(0, 5),
            "mask_feather": st.integers(0, 5),
        }
    )


def picture(seed: int, width: int, height: int, soft: bool) -> tuple[Pixels, Pixels]:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    hole = mask[rng.integers(0, height) :, rng.integers(0, width) :][:90, :90]
    hole[:] = rng.integers(0, 256, hole.shape) if soft else 255
    hole[0, 0] = 255
    return photo, mask


def task(family: Family, request: dict[str, Any], mode: str = "") -> Task:
    if family == "feedforward":
        return task_of(painters.entry("migan" if mode == "migan" else "lama"), **request)
    defaults = {key: request[key] for key in ("num_inference_steps", "guidance_scale", "strength", "scheduler")}
    return task_of(model_entry(family=family, max_size_px=128, **defaults), **request)


@pytest.mark.parametrize(("name", "mode"), ALL_FAMILIES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_pixels_outside_the_mask_come_back_byte_for_byte(name: Family, mode: str, data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    photo, mask = picture(data.draw(st.integers(0, 99)), width, height, data.draw(st.booleans()))
    staying, leaving = (task(name, data.draw(requests(name)), mode) for _ in range(2))
    leaves_after = data.draw(st.integers(0, 9))

    session = Session(Engine({"tiny": loaded(name, mode)}, max_rows=3), codec_threads=1)
    for one in (staying, leaving):
        session.take(one, {"image": png(photo), "mask": png(mask)})
    for _ in range(leaves_after):
        session.turn()
    session.drop(leaving)
    session.run([staying])
    session.shutdown()

    report, asked = staying.outcome, staying.parameters
    if isinstance(report, NoSurroundings):
        effective = masks.effective_mask(mask, asked.mask_grow, asked.mask_feather)
        starts_filled = asked.masked_content == "fill" and asked.strength < 1
        assert hides_everything(effective) and (starts_filled or not FACTS[name].denoises)
        return
    assert isinstance(report, JobReport), report
    assert report.mask.changed_outside_mask == 0 and report.seeds == [asked.seed + k for k in range(asked.n)]
    assert 1 <= report.timings.steps == staying.step <= asked.num_inference_steps
    kept = masks.effective_mask(mask, asked.mask_grow, asked.mask_feather) == 0
    assert len(staying.images) == asked.n
    for image in staying.images:
        with Image.open(io.BytesIO(image)) as result:
            assert (np.asarray(result)[kept] == photo[kept]).all()


ACTS = {
    "seed": 2,
    "prompt": "a red ball",
    "negative_prompt": "blur",
    "guidance_scale": 3.0,
    "num_inference_steps": 4,
    "strength": 0.4,
    "scheduler": "euler",
    "crop_padding": 60,
    "crop": "off",
    "mask_grow": 6,
    "mask_feather": 6,
    "masked_content": "fill",
}
"""Another value of each field than the one below."""


@pytest.mark.parametrize("field", [*ACTS, "noise"])
@pytest.mark.parametrize("mode", ["concat", "recompose"])
def test_every_field_acts_and_acts_on_the_hole_alone(mode: str, field: str) -> None:
    photo, _ = picture(3, 128, 120, soft=False)
    mask = np.zeros((120, 128), np.uint8)
    mask[50:70, 48:80] = 255
    usual = {
        "model": "tiny", "seed": 1, "prompt": "", "num_inference_steps": 3, "guidance_scale": 2.0, "strength": 0.7,
        "scheduler": "ddim", "masked_content": "original", "crop_padding": 8, "negative_prompt": "noise",
    }  # fmt: skip
    changed: dict[str, Any] = {"masked_content": "noise"} if field == "noise" else {field: ACTS[field]}
    results = [painted("sd", mode, usual | other, photo, mask) for other in ({}, changed)]
    grown = masks.effective_mask(mask, changed.get("mask_grow", 0), changed.get("mask_feather", 0))
    assert (results[1][grown == 0] == photo[grown == 0]).all()
    assert (results[0] != results[1])[grown > 0].mean() > 0.02
    if field in ("mask_grow", "mask_feather"):
        assert (results[1] != photo).any(axis=2)[(grown > 0) & (mask == 0)].mean() > 0.5


def painted(family: Family, mode: str, request: dict[str, Any], photo: Pixels, mask: Pixels) -> Pixels:
    one = task(family, request)
    session = Session(Engine({"tiny": loaded(family, mode)}, max_rows=3), codec_threads=1)
    session.take(one, {"image": png(photo), "mask": png(mask)})
    session.run([one])
    session.shutdown()
    assert isinstance(one.outcome, JobReport), one.outcome
    assert one.outcome.mask.changed_outside_mask == 0
    with Image.open(io.BytesIO(one.images[0])) as result:
        return np.asarray(result)


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_only_the_surroundings_of_the_mask_are_run_unless_crop_is_off(name: Family, mode: str) -> None:
    photo, mask = np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128), np.uint8)
    mask[20:44, 30:62] = 255
    request = {
        "model": "tiny",
        "seed": 1,
        "num_inference_steps": 2,
        "guidance_scale": 1,
        "strength": 1,
        "crop_padding": 8,
    }
    settled = request | {"scheduler": next(iter(tiny.FAMILIES[name].schedulers)), "masked_content": "original"}
    grid = {}
    for crop in ("auto", "off"):
        one = task(name, settled | {"crop": crop})
        one.prepare(one.open({"image": png(photo), "mask": png(mask)}), loaded(name, mode))
        grid[crop] = tuple(one.states[0].key.latent_shape[2:])
    assert grid == {"auto": (8, 8), "off": (16, 16)}
