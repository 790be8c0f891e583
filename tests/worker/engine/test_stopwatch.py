"""A job's account of its time, held against clocks that the tests move."""

import itertools

import pytest

from jobs.schema import JobReport
from tests.worker import tiny
from tests.worker.tasks import STEPS, task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.stopwatch import PHASES, Stopwatch


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_phase_has_the_time_between_its_beginning_and_the_next_ones(clock: Clock) -> None:
    stopwatch = Stopwatch(7.0, clock)
    lengths_s = {phase: 0.25 * number for number, phase in enumerate(PHASES[1:], 1)}
    clock.now += 0.125  # before the first: it waits
    for phase, length_s in lengths_s.items():
        stopwatch.enter(phase)
        clock.now += length_s
    account = stopwatch.timings(steps=4).model_dump()
    lengths_s |= {"queue": 7.0, "wait": lengths_s["wait"] + 0.125}
    assert {phase: account[phase] for phase in PHASES} == {phase: 1000 * lengths_s[phase] for phase in PHASES}
    assert account["total"] == 1000 * (7.0 + clock.now - 1000)


def test_a_phase_that_comes_again_adds_up_and_the_one_that_runs_counts_so_far(clock: Clock) -> None:
    stopwatch = Stopwatch(0.0, clock)
    for length_s in (0.5, 0.25):
        stopwatch.enter("vae_encode")
        clock.now += length_s
        stopwatch.enter("denoise")
        clock.now += 2
        assert stopwatch.timings(1).denoise == 1000 * stopwatch.spent["denoise"] > 0
    account = stopwatch.timings(1)
    assert (account.vae_encode, account.denoise, account.total) == (750, 4000, 4750)


def test_clocks_that_disagree_make_no_negative_time_in_the_queue(clock: Clock) -> None:
    assert Stopwatch(-3.0, clock).timings(1).queue == 0


def test_a_step_is_timed_from_end_to_end_and_its_passes_are_counted(clock: Clock) -> None:
    stopwatch = Stopwatch(0.0, clock)
    stopwatch.enter("denoise")
    for step, (gap_s, rows) in enumerate([(9, 1), (1, 2), (2, 3), (8, 6)], 1):
        clock.now += gap_s
        stopwatch.stepped(rows, step - 1)  # a pass that ends no step
        stopwatch.stepped(rows, step)
    assert stopwatch.step_s() == 2  # the middle one of 1, 2 and 8: the first has no step before it
    account = stopwatch.timings(4)
    assert (account.steps, account.step_p50, account.batch_mean, account.denoise) == (4, 2000, 3, 20_000)


def test_before_the_second_step_a_step_takes_its_share_of_the_denoising(clock: Clock) -> None:
    stopwatch = Stopwatch(0.0, clock)
    assert (stopwatch.step_s(), stopwatch.timings(0).step_p50, stopwatch.timings(0).batch_mean) == (0, 0, 0)
    stopwatch.enter("denoise")
    clock.now += 3
    stopwatch.stepped(1, 1)
    assert stopwatch.timings(1).step_p50 == 3000
    assert stopwatch.timings(2).step_p50 == 1500


def test_a_job_in_a_session_enters_every_phase_once_and_none_for_another() -> None:
    """By a clock that goes on by a second whenever it is read: a phase lasts as often as it is read in it."""
    readings = itertools.count()
    job = task("sd", 1, stopwatch=Stopwatch(0.0, lambda: float(next(readings))))
    session = Session(Engine({"tiny": tiny.model("sd", "concat")}, max_rows=8), codec_threads=1)
    session.take(job, uploads())
    session.run([job])
    session.shutdown()
    assert isinstance(job.outcome, JobReport), job.outcome
    account = job.outcome.timings.model_dump()
    once = dict.fromkeys(("decode", "crop", "text_encode", "vae_encode", "vae_decode", "paste", "png"), 1000)
    once["text_encode"] = 2000  # encoded, and looked at whether it was cut
    waits = {"wait": 4000}  # for the decoding, after the crop, for its model, after the VAE
    steps = {"denoise": 1000 * (1 + STEPS)}  # a reading at each step's end
    assert {phase: account[phase] for phase in PHASES if account[phase]} == {**once, **waits, **steps}
    assert account["total"] == 1000 * (8 + 4 + 1 + STEPS)
    assert account["step_p50"] == 1000
