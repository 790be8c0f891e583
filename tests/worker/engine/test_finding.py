"""Jobs whose mask a segmenter finds, in a session: beside others, and within one budget of weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.errors import MaskNotFound
from jobs.schema import FindMask, InputName, JobReport
from jobs.segmenters import SegmenterEntry
from tests.factories import mask_with, model_entry, noise, png
from tests.worker import segmenters, tiny
from tests.worker.tasks import task_of
from worker.engine.engine import Engine
from worker.engine.finding import Search
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.base import Family
from worker.families.clipseg import read_clipseg
from worker.models.loading import LoadedSegmenter
from worker.models.models import Models
from worker.pixels.pictures import decode, decode_mask

PHOTO = noise((80, 96, 3), seed=5)
INPUTS: dict[InputName, bytes | None] = {"image": png(PHOTO), "mask": png(np.full(PHOTO.shape[:2], 255, np.uint8))}
MODEL = tiny.model("sd", "recompose")
ENTRY = model_entry(family="sd", num_inference_steps=2, scheduler="euler")
SIZE = 100


class Placed:
    """A model in main memory, of SIZE bytes."""

    size_bytes = SIZE

    def place(self) -> Family:
        return type(MODEL)("a", MODEL.pipeline)


class Segmenter(LoadedSegmenter):
    """The same, of a segmenter."""

    size_bytes = SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmenters.save(tmp_path_factory.mktemp("seg"), PHOTO)


@pytest.fixture
def models(folder: Path, request: pytest.FixtureRequest) -> Models:
    entry = SegmenterEntry(network="clipseg", source=str(folder))

    def read(name: str, entry: Any) -> Any:
        return Placed() if name == "a" else Segmenter(read_clipseg(name, entry), MODEL.device)

    made = Models({"a": ENTRY, "seg": entry}, read, getattr(request, "param", 0))
    made.load_first()
    return made


@pytest.fixture
def session(models: Models) -> Iterator[Session]:
    made = Session(Engine(models, 8), 1, models.ready, segmenters=models.segmenters)
    yield made
    made.shutdown()


def words_task(job_id: str, subject: str = "foreground", least_score: float = 0.6, **asked: Any) -> Task:
    find = FindMask.model_validate({"model": "seg", "prompt": segmenters.WORDS, "subject": subject})
    task = task_of(ENTRY, job_id, model="a", find=find, **asked)
    task.search = Search(find, least_score)
    return task


def drawn_task(job_id: str) -> tuple[Task, dict[InputName, bytes | None]]:
    mask = png(mask_with(np.s_[20:50, 30:60], PHOTO.shape[:2]))
    return task_of(ENTRY, job_id, model="a"), {"image": INPUTS["image"], "mask": mask}


def report_of(task: Task) -> JobReport:
    assert isinstance(task.outcome, JobReport), task.outcome
    return task.outcome


@pytest.mark.parametrize("models", [0, SIZE, 2 * SIZE], indirect=True, ids=["no limit", "one fits", "both fit"])
def test_the_mask_is_found_first_and_nothing_outside_it_changes(models: Models, session: Session) -> None:
    tasks = [words_task("1"), words_task("2", "background"), words_task("3", mask_grow=3)]
    for task in tasks:
        session.take(task, INPUTS)
    drawn, inputs = drawn_task("4")
    session.take(drawn, inputs)
    session.run([*tasks, drawn])
    assert report_of(drawn).mask.score is None
    for task in tasks:
        report, search = report_of(task), task.search
        assert search and search.png and report.mask.score == search.score
        assert report.mask.changed_outside_mask == 0
        found = decode_mask(search.png)
        kept = task.mask == 0
        assert not (found[kept] > 0).any() and kept.any() and (found > 0).any()
        painted = decode(task.images[0]).rgb
        assert np.array_equal(painted[kept], PHOTO[kept]) and not np.array_equal(painted, PHOTO)
    held = {*models, *models.segmenters}
    assert held == ({"a"} if models._budget_bytes == SIZE else {"a", "seg"})


def test_the_report_has_the_box_of_the_mask_and_only_its_surroundings_are_run(session: Session) -> None:
    task = words_task("1", crop_padding=0)
    session.take(task, INPUTS)
    session.run([task])
    report, left, top = report_of(task), task.bbox[0], task.bbox[1]
    assert report.mask.bbox == task.bbox and report.region is not None
    assert report.region.box[0] <= left and report.region.box[1] <= top


def test_an_answer_below_the_limit_fails_its_job_alone(session: Session) -> None:
    doubtful, (drawn, inputs) = words_task("1", least_score=1.0), drawn_task("2")
    session.take(doubtful, INPUTS)
    session.take(drawn, inputs)
    session.run([doubtful, drawn])
    assert isinstance(doubtful.outcome, MaskNotFound) and "1 is needed" in str(doubtful.outcome)
    assert report_of(drawn).mask.changed_outside_mask == 0


def test_a_job_that_is_dropped_while_its_mask_is_found_leaves_nothing(session: Session) -> None:
    task, (drawn, inputs) = words_task("1"), drawn_task("2")
    session.take(task, INPUTS)
    while task.search and task.search.pending:
        session.turn()
    session.drop(task)
    session.take(drawn, inputs)
    session.run([drawn])
    assert task.outcome is None and session.tasks == []
