"""A session's turn: nobody waits for more than one preparation, one step and one decoding of others."""

from tests.worker import tiny
from tests.worker.test_promises import task, uploads
from worker.engine import Engine
from worker.session import Session


def opened(count: int) -> Session:
    session = Session(Engine({"tiny": tiny.model("sd", "concat")}, max_rows=8), codec_threads=2)
    for seed in range(1, count + 1):
        session.take(task("sd", seed), *uploads())
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
    session.take(twin, *uploads())
    session.opening[twin].result()
    while not first.stepped_out:
        session.turn()
    assert first not in session.running and twin in session.running
    session.run([first, twin])
    session.shutdown()
