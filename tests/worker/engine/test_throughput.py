"""What a worker says of its speed: corrected by how long its work takes, with what is left of its jobs."""

import pytest

from jobs.schema import JobReport
from jobs.speed import Speed
from tests.worker.slow_device import on_device
from tests.worker.tasks import STEPS, task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task

AREA_PX = 64 * 64


def session_on(pass_s: float, predicted_s: float, codec_s: float = 0.0) -> Session:
    """A device that takes ``pass_s`` for a pass, of which a profile said ``predicted_s``."""
    model, _ = on_device(pass_s, 0.0)
    speeds = [Speed(area_px=AREA_PX, pass_s=predicted_s, row_s=predicted_s / 4, codec_s=codec_s)]
    return Session(Engine({"tiny": model}, max_rows=8, speeds={"tiny": speeds}), codec_threads=1)


def run(session: Session, *tasks: Task) -> None:
    for one in tasks:
        session.take(one, uploads())
    session.run(list(tasks))


def test_a_worker_begins_with_what_the_profile_said() -> None:
    session = session_on(0.0, 0.01)
    assert session.throughput.slowdown == 1
    session.turn()
    assert session.throughput.slowdown == 1  # nothing was done
    session.shutdown()


@pytest.mark.parametrize("predicted_s", [0.05, 0.4])
def test_slowness_goes_by_how_long_the_work_takes(predicted_s: float) -> None:
    session = session_on(0.2, predicted_s)
    run(session, *(task("sd", seed, num_inference_steps=20) for seed in range(1, 3)))
    session.shutdown()
    slowdown = session.throughput.slowdown
    assert slowdown > 1.5 if predicted_s < 0.2 else slowdown < 0.9


def test_what_is_left_of_a_job_falls_with_its_steps_and_is_gone_with_it() -> None:
    session = session_on(0.0, 0.1, codec_s=1.0)
    one = task("sd", 1, guidance_scale=3.0)
    session.take(one, uploads())
    told = []
    while one.outcome is None:
        (left,) = session.throughput.speed(8, session.tasks).left
        told.append(left)
        session.turn()
    session.shutdown()
    shares = [left.batched_s for left in told]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(STEPS * 2 * 0.1 / 4 + 1.0)  # two rows a step
    assert told[0].alone_s == pytest.approx(STEPS * 0.1 + 1.0)
    assert shares[-1] == 0  # stepped and decoded, on its way to a PNG
    assert session.throughput.speed(8, session.tasks).left == []


def test_before_its_first_steps_a_job_has_an_eta_and_more_company_lengthens_it() -> None:
    session = session_on(0.0, 0.1, codec_s=1.0)
    one, other = task("sd", 1, guidance_scale=1.0), task("sd", 2)
    assert session.throughput.eta_ms(one, [one]) == pytest.approx(1000 * (STEPS * 0.1 + 1.0))
    assert session.throughput.eta_ms(one, [one, other]) == pytest.approx(2000 * (STEPS * 0.1 / 4 + 1.0))
    session.engine.speeds = {}
    assert session.throughput.eta_ms(one, [one]) is None
    session.shutdown()


def test_a_job_whose_steps_take_longer_than_predicted_is_told_of_by_them() -> None:
    session = session_on(0.05, 0.001)
    one = task("sd", 1, num_inference_steps=20)
    session.take(one, uploads())
    while one.step < 5:
        session.turn()
    assert session.throughput.eta_ms(one, [one]) == one.eta_ms > 15 * 40
    session.engine.speeds = {}
    assert session.throughput.eta_ms(one, [one]) == one.eta_ms
    session.run([one])
    session.shutdown()


@pytest.mark.parametrize(("guidance", "n", "rows"), [(1.0, 1, 1), (3.0, 1, 2), (3.0, 2, 4)])
def test_the_first_job_of_a_model_that_was_too_slow_to_be_measured_measures_it(
    guidance: float, n: int, rows: int
) -> None:
    model, _ = on_device(0.2, 0.0)
    session = Session(Engine({"tiny": model}, max_rows=8, speeds={"tiny": []}), codec_threads=1)
    first, second = (task("sd", seed, guidance_scale=guidance, n=n) for seed in (1, 2))
    assert session.throughput.eta_ms(first, [first]) is None
    run(session, first)
    (speed,) = session.engine.speeds["tiny"]
    assert isinstance(first.outcome, JobReport)
    spent = first.outcome.timings
    assert speed.pass_s == speed.row_s == pytest.approx(spent.denoise / 1000 / STEPS / rows, rel=1e-3)
    codec_ms = spent.text_encode + spent.vae_encode + spent.vae_decode
    assert (speed.area_px, speed.best_rows) == (AREA_PX, None)
    assert speed.codec_s == pytest.approx(codec_ms / 1000 / n, rel=1e-3)
    assert session.throughput.eta_ms(second, [second]) == pytest.approx(
        session.throughput.slowdown * (spent.denoise + codec_ms), rel=0.01
    )
    run(session, second)
    session.shutdown()
    assert session.engine.speeds["tiny"] == [speed]


def test_a_job_of_a_model_that_was_not_measured_is_not_foretold() -> None:
    session = session_on(0.0, 0.1)
    session.engine.speeds = {"tiny": []}
    session.take(task("sd", 1), uploads())
    speed = session.throughput.speed(8, session.tasks)
    assert speed.left == [] and "tiny" not in speed
    session.shutdown()
