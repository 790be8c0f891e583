"""Which models lie on the device: the policy, and what it means for tasks of several models in one session."""

import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from jobs.catalog import ModelEntry
from jobs.errors import BadModel, ModelUnavailable
from jobs.schema import JobReport
from jobs.speed import Speed
from tests.factories import mask_with, model_entry, png
from tests.worker import tiny
from tests.worker.tasks import task_of
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.base import Family
from worker.models.models import DeviceFull, Held, Models, to_evict

FAMILY = tiny.model("sd", "recompose")
SIZE = 100


@dataclass
class Disk:
    """Reads models of SIZE bytes; the device takes ``room`` of them."""

    broken: set[str] = field(default_factory=set)
    room: int = 100
    reads: list[str] = field(default_factory=list)
    models: Models = field(init=False)

    def read(self, name: str, _: ModelEntry) -> "OnDisk":
        self.reads.append(name)
        if name in self.broken:
            raise BadModel("the file is cut short")
        return OnDisk(self, name)


@dataclass
class OnDisk:
    disk: Disk
    name: str
    size_bytes: int = SIZE

    def place(self) -> Family:
        if len(self.disk.models) >= self.disk.room:
            raise DeviceFull("out of memory")
        return type(FAMILY)(self.name, FAMILY.pipeline)


def models(disk: Disk, names: str = "abc", budget: int = 0, pinned: str = "") -> Models:
    disk.models = Models({name: model_entry(pinned=name in pinned) for name in names}, disk.read, budget)
    return disk.models


def held(**used: int) -> dict[str, Held]:
    return {name: Held(SIZE, used_at) for name, used_at in used.items()}


def test_the_least_recently_used_goes_first_and_no_more_than_must() -> None:
    assert to_evict(held(a=3, b=1, c=2), SIZE, 3 * SIZE, ()) == ["b"]
    assert to_evict(held(a=3, b=1, c=2), 2 * SIZE, 3 * SIZE, ()) == ["b", "c"]
    assert to_evict(held(a=1), SIZE, 2 * SIZE, ()) == []


def test_what_must_stay_stays() -> None:
    assert to_evict(held(a=3, b=1), SIZE, 2 * SIZE, "b") == ["a"]
    assert to_evict(held(a=3, b=1), SIZE, 2 * SIZE, "ab") is None


def test_without_a_budget_nothing_goes() -> None:
    assert to_evict(held(a=3, b=1), 10**12, 0, ()) == []


def test_the_first_model_is_loaded_at_the_start_and_the_others_on_first_use() -> None:
    shelf = models(Disk())
    shelf.load_first()
    assert list(shelf) == ["a"]
    assert shelf.ready("c", ())
    assert sorted(shelf) == ["a", "c"]


def test_pinned_models_are_loaded_at_the_start_and_never_evicted() -> None:
    shelf = models(Disk(), budget=2 * SIZE, pinned="b")
    shelf.load_first()
    assert list(shelf) == ["b"]
    assert shelf.ready("a", ()) and shelf.ready("c", ())
    assert sorted(shelf) == ["b", "c"]


def test_pinned_models_that_do_not_fit_together_stop_the_start() -> None:
    with pytest.raises(BadModel, match="do not fit together into 200 bytes"):
        models(Disk(), budget=2 * SIZE, pinned="abc").load_first()


def test_a_model_larger_than_the_whole_budget_is_refused() -> None:
    with pytest.raises(BadModel, match="100 bytes of weights; 99 are allowed"):
        models(Disk(), budget=SIZE - 1).load_first()


def test_a_model_waits_for_those_in_use_and_is_read_once() -> None:
    disk = Disk()
    shelf = models(disk, budget=SIZE)
    shelf.load_first()
    assert [shelf.ready("b", {"a"}) for _ in range(3)] == [False] * 3
    assert shelf.ready("b", ())
    assert (list(shelf), disk.reads) == (["b"], ["a", "b"])


def test_a_full_device_lets_idle_models_go_one_by_one() -> None:
    disk = Disk(room=2)
    shelf = models(disk)
    assert shelf.ready("a", ()) and shelf.ready("b", ()) and shelf.ready("a", ()) and shelf.ready("c", ())
    assert sorted(shelf) == ["a", "c"]
    with pytest.raises(ModelUnavailable):
        shelf.ready("b", {"a", "c"})
    assert sorted(shelf) == ["a", "c"]


def test_a_model_that_cannot_be_loaded_is_not_tried_again_at_once() -> None:
    disk = Disk(broken={"b"})
    shelf = models(disk)
    for _ in range(3):
        with pytest.raises(ModelUnavailable):
            shelf.ready("b", ())
    assert disk.reads == ["b"]
    assert shelf.ready("a", ())


def test_loads_are_announced_before_and_after() -> None:
    disk = Disk(broken={"b"})
    shelf = models(disk)
    told: list[bool] = []
    shelf.on_load = told.append
    shelf.ready("a", ())
    shelf.ready("a", ())
    with pytest.raises(ModelUnavailable):
        shelf.ready("b", ())
    assert told == [True, False, True, False]


HEARTBEAT = """
import sys, time
from worker.queue.leases import Heartbeat
pulse = Heartbeat(beat=lambda: None, busy=lambda: True, beat_s=0.05, stall_s=0.2)
pulse.start()
pulse.moved(float(sys.argv[1]))
time.sleep(1)
"""


@pytest.mark.parametrize(("load_limit_s", "status"), [("30", 0), ("0.5", 70)])
def test_a_load_may_take_longer_than_a_step_but_not_for_ever(load_limit_s: str, status: int) -> None:
    command = [sys.executable, "-c", HEARTBEAT, load_limit_s]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=120, check=False).returncode == status


# ---- tasks of several models


MASK = mask_with(np.s_[20:40, 20:40], (64, 64))
PHOTO = np.full((64, 64, 3), 90, np.uint8)


def test_a_model_is_measured_at_its_first_load_only_and_the_measure_outlives_it() -> None:
    disk, asked = Disk(), []
    measured = [Speed(area_px=4096, pass_s=0.1, row_s=0.1, codec_s=0.1, best_rows=2)]

    def measure(family: Family, _: ModelEntry) -> list[Speed]:
        asked.append(family.name)
        return measured

    shelf = disk.models = Models({name: model_entry() for name in "ab"}, disk.read, SIZE, measure)
    for name in "abab":
        shelf.ready(name, ())
    assert disk.reads == ["a", "b", "a", "b"] and list(shelf) == ["b"]
    assert asked == ["a", "b"] and shelf.speeds == {"a": measured, "b": measured}


def task(model: str, steps: int = 2) -> Task:
    return task_of(model_entry(), f"job-{model}", model=model, num_inference_steps=steps)


def take(session: Session, *tasks: Task) -> list[Task]:
    for one in tasks:
        session.take(one, {"image": png(PHOTO), "mask": png(MASK)})
    return list(tasks)


def session_of(shelf: Models) -> Session:
    return Session(Engine(shelf, max_rows=8), codec_threads=1, ready=shelf.ready)


def order_of_ends(session: Session, tasks: list[Task]) -> list[str]:
    ended: list[Task] = []
    for _ in range(10_000):
        session.turn()
        ended += [one for one in tasks if one.outcome is not None and one not in ended]
        if len(ended) == len(tasks):
            return [one.model for one in ended]
    raise AssertionError("not done")


def test_jobs_of_models_that_do_not_fit_together_run_one_model_after_the_other() -> None:
    disk = Disk()
    shelf = models(disk, budget=SIZE)
    session = session_of(shelf)
    tasks = take(session, *(task(name) for name in "abab"))
    assert order_of_ends(session, tasks) == ["a", "a", "b", "b"]
    assert all(isinstance(one.outcome, JobReport) for one in tasks)
    assert disk.reads == ["a", "b"]


def test_a_job_that_waits_for_room_is_not_overtaken_by_those_who_come_later() -> None:
    shelf = models(Disk(), budget=SIZE)
    session = session_of(shelf)
    tasks = take(session, task("a", steps=30), task("b"))
    while session.waiting is None:
        session.turn()
    tasks += take(session, task("a"), task("a"))
    assert order_of_ends(session, tasks) == ["a", "b", "a", "a"]


def test_a_job_whose_model_cannot_be_loaded_fails_alone() -> None:
    shelf = models(Disk(broken={"b"}))
    session = session_of(shelf)
    tasks = take(session, task("a"), task("b"))
    order_of_ends(session, tasks)
    assert isinstance(tasks[0].outcome, JobReport)
    assert isinstance(tasks[1].outcome, ModelUnavailable)


def test_a_waiting_job_that_is_dropped_holds_nobody_up() -> None:
    shelf = models(Disk(), budget=SIZE)
    session = session_of(shelf)
    first, waiting = take(session, task("a", steps=5), task("b"))
    while session.waiting is None:
        session.turn()
    session.drop(waiting)
    (later,) = take(session, task("a"))
    assert order_of_ends(session, [first, later]) == ["a", "a"]
    assert list(shelf) == ["a"]
