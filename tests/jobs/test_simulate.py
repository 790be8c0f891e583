"""When jobs start and end, by arithmetic."""

import pytest

from jobs.simulation import Interval, Simulation, simulate
from jobs.speed import Cost


def cost(batched_s: float, alone_s: float | None = None) -> Cost:
    return Cost(batched_s=batched_s, alone_s=batched_s if alone_s is None else alone_s)


def spans(found: list[Interval]) -> list[tuple[float, float]]:
    return [(round(span.start_s, 6), round(span.end_s, 6)) for span in found]


def test_nothing_waits_nothing_is_foreseen() -> None:
    assert simulate([cost(1)], [], seats=8, devices=1) == []


def test_on_one_seat_jobs_follow_one_another() -> None:
    assert spans(simulate([], [cost(1), cost(2), cost(3)], seats=1, devices=1)) == [(0, 1), (1, 3), (3, 6)]


def test_in_several_seats_jobs_take_turns() -> None:
    assert spans(simulate([], [cost(1), cost(1), cost(1)], seats=2, devices=1)) == [(0, 2), (0, 2), (2, 3)]


def test_a_short_job_among_long_ones_ends_early() -> None:
    assert spans(simulate([], [cost(3), cost(1)], seats=2, devices=1)) == [(0, 4), (0, 2)]


def test_jobs_that_gain_from_company_end_together_as_if_alone() -> None:
    assert spans(simulate([], [cost(1, alone_s=4)] * 4, seats=4, devices=1)) == [(0, 4)] * 4


def test_a_job_by_itself_takes_its_time_alone() -> None:
    assert spans(simulate([], [cost(1, alone_s=4)], seats=4, devices=1)) == [(0, 4)]


def test_what_runs_must_make_room_first() -> None:
    assert spans(simulate([cost(2)], [cost(1)], seats=1, devices=1)) == [(2, 3)]


def test_two_devices_are_twice_as_fast_but_not_for_one_job() -> None:
    assert spans(simulate([], [cost(2)] * 2, seats=2, devices=2)) == [(0, 2)] * 2
    assert spans(simulate([], [cost(2)], seats=2, devices=2)) == [(0, 2)]


def test_no_work_is_lost_or_made() -> None:
    costs = [cost(0.1 * n) for n in range(1, 40)]
    found = simulate([cost(1.5), cost(0)], costs, seats=8, devices=1)
    assert max(span.end_s for span in found) == pytest.approx(1.5 + sum(one.batched_s for one in costs), abs=1e-3)
    assert [span.start_s for span in found] == sorted(span.start_s for span in found)


def test_a_job_that_comes_later_starts_no_earlier_and_prolongs_what_it_runs_beside() -> None:
    simulation = Simulation([], seats=2, devices=1)
    first = simulation.add(cost(2))
    assert spans([simulation.interval(first)]) == [(0, 2)]
    second = simulation.add(cost(1), from_s=1)
    assert spans([simulation.interval(first), simulation.interval(second)]) == [(0, 3), (1, 3)]
    third = simulation.add(cost(1), from_s=2)
    assert spans([simulation.interval(third)]) == [(3, 4)]


def test_jobs_added_one_by_one_run_as_if_they_came_together() -> None:
    running, costs = [cost(1.5), cost(0.5, alone_s=2)], [cost(0.3 * n, alone_s=1) for n in range(1, 12)]
    simulation = Simulation(running, seats=3, devices=2)
    for count, one in enumerate(costs, 1):
        simulation.add(one)
        found = [simulation.interval(index) for index in range(count)]
        assert found == simulate(running, costs[:count], seats=3, devices=2)
