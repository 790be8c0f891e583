"""A device that has no room to encode or decode: in halves, in tiles, after others; real VAEs and the real session."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.schema import JobReport
from tests.worker import tiny
from tests.worker.tasks import task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.latent_diffusion import LatentDiffusion
from worker.queue.failures import failure_of

NO_ROOM = "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
TILE_PX = 32
"""Side of a tile of the tiny VAEs."""


def limited(part: torch.nn.Module, room: Callable[[], float], px_a_cell: int = 1) -> list[int]:
    """Let a part of a VAE run out of memory above ``room`` pixels; returns a list that gets what it was asked for."""
    asked: list[int] = []

    def look(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        rows, _, height, width = inputs[0].shape
        asked.append(rows * height * width * px_a_cell**2)
        if asked[-1] > room():
            raise RuntimeError(NO_ROOM)

    part.register_forward_pre_hook(look)
    return asked


def session_of(model: LatentDiffusion) -> Session:
    return Session(Engine({"tiny": model}, 8), 1)


def ran(model: LatentDiffusion, *tasks: Task) -> list[Task]:
    session = session_of(model)
    for one in tasks:
        session.take(one, uploads())
    session.run(list(tasks))
    session.shutdown()
    return list(tasks)


def pixels(one: Task) -> list[bytes]:
    assert isinstance(one.outcome, JobReport), one.outcome
    return one.images


def shown(images: list[bytes]) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images]).astype(int)


def test_images_that_cannot_be_decoded_together_are_decoded_one_by_one_and_are_the_same() -> None:
    (expected,) = ran(tiny.model("sd", "concat"), task("sd", 1, n=3))
    model = tiny.model("sd", "concat")
    asked = limited(model.vae.decoder, lambda: 64 * 64, px_a_cell=8)
    (one,) = ran(model, task("sd", 1, n=3))
    assert asked == [3 * 4096, 4096, 2 * 4096, 4096, 4096]
    assert np.abs(shown(pixels(one)) - shown(pixels(expected))).max() <= 1
    assert isinstance(one.outcome, JobReport) and one.outcome.approximate is not None
    assert "tiled" not in one.outcome.approximate


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_picture_that_does_not_fit_whole_is_done_in_tiles_and_says_so(part: str) -> None:
    model = tiny.model("sd", "concat")
    asked = limited(getattr(model.vae, part), lambda: TILE_PX**2, px_a_cell=8 if part == "decoder" else 1)
    (one,) = ran(model, task("sd", 1))
    assert max(asked) == 64 * 64 and asked[-1] <= TILE_PX**2
    assert isinstance(one.outcome, JobReport) and one.outcome.approximate is not None
    assert "tiled" in one.outcome.approximate
    assert not model.vae.use_tiling


def test_what_was_encoded_in_tiles_is_not_kept_for_the_next_job() -> None:
    model = tiny.FAMILIES["sd"].family("tiny", tiny.pipeline("sd", "concat", "ddim"), 2**28)
    room = [TILE_PX**2]
    limited(model.vae.encoder, lambda: room[0])
    ran(model, task("sd", 1, scheduler="ddim"))
    assert len(model.encodings) == 0
    room[0] = 2**30
    (one,) = ran(model, task("sd", 1, scheduler="ddim"))
    assert isinstance(one.outcome, JobReport) and "tiled" not in (one.outcome.approximate or [])
    assert len(model.encodings) > 0


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_picture_that_fits_after_another_job_has_ended_waits_for_it(part: str) -> None:
    model = tiny.model("sd", "concat")
    session = session_of(model)
    early, late, last = task("sd", 1, num_inference_steps=8), task("sd", 2, num_inference_steps=4), task("sd", 3)
    full = [False]
    limited(getattr(model.vae, part), lambda: 0 if full[0] and early in session.running else 2**30)
    for one in (early, late, last) if part == "encoder" else (early, late):
        session.take(one, uploads())
        session.opening[one].result()
    session.turn()
    full[0] = True
    began = []
    while any(one.outcome is None for one in (early, late)):
        session.turn()
        began += [one for one in session.running if one not in began]
    session.run([last] if part == "encoder" else [])
    session.shutdown()
    assert all(isinstance(one.outcome, JobReport) for one in (early, late)), (early.outcome, late.outcome)
    assert began[:2] == [early, late] and not session.no_room


def test_two_jobs_that_never_fit_wait_for_no_one_and_fail() -> None:
    model = tiny.model("sd", "concat")
    limited(model.vae.decoder, lambda: 0)
    for one in ran(model, task("sd", 1), task("sd", 2)):
        assert isinstance(one.outcome, Exception) and failure_of(one.outcome).code == "out_of_memory"


def test_a_job_that_waits_for_room_can_be_dropped() -> None:
    model = tiny.model("sd", "concat")
    session = session_of(model)
    early, late = task("sd", 1, num_inference_steps=6), task("sd", 2)
    limited(model.vae.encoder, lambda: 0 if session.running else 2**30)
    for one in (early, late):
        session.take(one, uploads())
        session.opening[one].result()
    while late not in session.no_room:
        session.turn()
    session.drop(late)
    session.run([early])
    session.shutdown()
    assert isinstance(early.outcome, JobReport) and not session.no_room and not session.tasks
