"""A session's turn: nobody waits for more than one preparation, one step and one decoding of others."""

import time
from collections.abc import Collection, Sequence

from jobs.schema import JobReport, Tiles
from jobs.speed import Speed
from tests.worker import tiny
from tests.worker.tasks import task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.latent_diffusion import LatentDiffusion


def opened(count: int) -> Session:
    session = Session(Engine({"tiny": tiny.model("sd", "concat")}, max_rows=8), codec_threads=2)
    for seed in range(1, count + 1):
        session.take(task("sd", seed), uploads())
    for future in session.opening.values():
        future.result()
    return session


def test_tasks_that_come_together_are_prepared_one_a_turn_while_the_others_step() -> None:
    session = opened(3)
    steps = []
    for _ in range(3):
        session.turn()
        steps.append(sorted(one.step for one in session.running))
    session.shutdown()
    assert steps == [[1], [1, 2], [1, 2, 3]]


def test_tasks_that_end_together_are_decoded_one_a_turn_while_the_others_step() -> None:
    session = opened(1)
    session.turn()
    (first,) = session.running
    twin = task("sd", 2, num_inference_steps=3)
    session.take(twin, uploads())
    session.opening[twin].result()
    while not first.stepped_out:
        session.turn()
    assert first not in session.running and twin in session.running
    session.run([first, twin])
    session.shutdown()


class Shelf(dict[str, LatentDiffusion]):
    """Models by name; ``ready`` takes its time to load one that is missing, and finds room at the ``tries``-th try."""

    def __init__(self, load_s: float = 0.0, tries: int = 1) -> None:
        self.load_s, self.tries = load_s, tries
        self.asked: list[str] = []

    def ready(self, name: str, in_use: Collection[str]) -> bool:
        self.asked.append(name)
        if name not in self:
            time.sleep(self.load_s)
            self.tries -= 1
            if self.tries > 0:
                return False
            self[name] = tiny.model("sd", "concat")
            self[name].name = name
        return True

    def session(self, speeds: dict[str, Sequence[Speed]] | None = None) -> Session:
        return Session(Engine(self, max_rows=8, speeds=speeds), 1, self.ready)


def taken(session: Session, *tasks: Task) -> None:
    """All of them opened."""
    for one in tasks:
        session.take(one, uploads())
    for one in tasks:
        session.opening[one].result()


def test_a_load_begins_a_turn_after_it_can_be_made_known() -> None:
    shelf = Shelf()
    session = shelf.session()
    one = task("sd", 1)
    taken(session, one)
    session.turn()
    assert (session.loading, one.loading, session.loads_next, shelf.asked) == (["tiny"], True, one, [])
    session.turn()
    assert (session.loading, one.loading, session.loads_next, shelf.asked) == ([], False, None, ["tiny"])
    session.run([one])
    session.shutdown()


def test_a_job_whose_load_was_to_come_can_be_dropped() -> None:
    shelf = Shelf()
    session = shelf.session()
    one, other = task("sd", 1), task("sd", 2, model="other")
    taken(session, one, other)
    session.turn()
    assert session.loads_next is one and one.loading and other.loading
    session.drop(one)
    session.run([other])
    session.shutdown()
    assert shelf.asked[0] == "other" and not isinstance(other.outcome, Exception)


def test_every_job_that_stands_behind_a_load_is_loading_and_a_running_one_runs() -> None:
    shelf = Shelf(tries=3)
    shelf["tiny"] = tiny.model("sd", "concat")
    session = shelf.session()
    running, waiting, behind = task("sd", 1), task("sd", 2, model="b"), task("sd", 3)
    taken(session, running, waiting)
    while session.waiting is None:
        session.turn()
    taken(session, behind)
    session.turn()
    assert [one.loading for one in (running, waiting, behind)] == [False, True, True]
    assert session.loading == ["b"]
    session.run([running, waiting, behind])
    session.shutdown()
    assert session.loading == []


def test_a_job_between_two_passes_goes_on_while_another_model_waits_for_room() -> None:
    shelf = Shelf(tries=10_000)
    shelf["tiny"] = tiny.model("sd", "concat")
    session = shelf.session()
    one, waiting = task("sd", 1, tiles=Tiles(count=1, strength=0.5)), task("sd", 2, model="b")
    taken(session, one, waiting)
    for _ in range(1000):
        session.turn()
        if one.outcome is not None:
            break
    assert one.begun == 1 and isinstance(one.outcome, JobReport)
    assert session.waiting and session.waiting.task is waiting
    session.shutdown()


def test_a_load_for_which_there_was_no_room_yet_is_no_work_of_the_turn() -> None:
    """It was read, which held the turn up; ``slowdown`` compares the turn's work alone."""
    shelf = Shelf(load_s=2.0, tries=2)
    shelf["tiny"] = tiny.model("sd", "concat")
    session = shelf.session({"tiny": [Speed(area_px=64 * 64, pass_s=0.05, row_s=0.05, codec_s=0.05)]})
    running, waiting = task("sd", 1, num_inference_steps=10), task("sd", 2, model="b")
    taken(session, running, waiting)
    while session.waiting is None:
        session.turn()
    assert session.throughput.slowdown < 1.5  # 2.4 with the load
    session.run([running, waiting])
    session.shutdown()
    assert session.throughput.slowdown < 1.5


def test_loads_one_after_the_other_leave_a_pass_in_between_and_a_running_job_gets_on() -> None:
    shelf = Shelf()
    shelf["tiny"] = tiny.model("sd", "concat")
    session = shelf.session()
    running = task("sd", 1, num_inference_steps=40)
    others = [task("sd", 2, model=name) for name in "abcd"]
    taken(session, running, *others)
    passes, steps, loaded = [], [], len(shelf)
    while others[-1].outcome is None:
        session.turn()
        if len(shelf) > loaded:
            loaded = len(shelf)
            passes.append(session.engine.turn)
            steps.append(running.step)
    session.shutdown()
    assert len(passes) == len(set(passes)) == 4
    assert steps[-1] > steps[0]
