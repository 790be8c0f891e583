"""When jobs start and end, by arithmetic."""

import pytest

from jobs.forecast import Span, forecast
from jobs.pace import Cost


def cost(share_s: float, alone_s: float | None = None) -> Cost:
    return Cost(share_s=share_s, alone_s=share_s if alone_s is None else alone_s)


def spans(found: list[Span]) -> list[tuple[float, float]]:
    return [(round(span.start_s, 6), round(span.end_s, 6)) for span in found]


def test_nothing_waits_nothing_is_foreseen() -> None:
    assert forecast([cost(1)], [], seats=8, devices=1) == []


def test_on_one_seat_jobs_follow_one_another() -> None:
    assert spans(forecast([], [cost(1), cost(2), cost(3)], seats=1, devices=1)) == [(0, 1), (1, 3), (3, 6)]


def test_in_several_seats_jobs_take_turns() -> None:
    assert spans(forecast([], [cost(1), cost(1), cost(1)], seats=2, devices=1)) == [(0, 2), (0, 2), (2, 3)]


def test_a_short_job_among_long_ones_ends_early() -> None:
    assert spans(forecast([], [cost(3), cost(1)], seats=2, devices=1)) == [(0, 4), (0, 2)]


def test_jobs_that_gain_from_company_end_together_as_if_alone() -> None:
    assert spans(forecast([], [cost(1, alone_s=4)] * 4, seats=4, devices=1)) == [(0, 4)] * 4


def test_what_runs_must_make_room_first() -> None:
    assert spans(forecast([cost(2)], [cost(1)], seats=1, devices=1)) == [(2, 3)]


def test_two_devices_are_twice_as_fast_but_not_for_one_job() -> None:
    assert spans(forecast([], [cost(2)] * 2, seats=2, devices=2)) == [(0, 2)] * 2
    assert spans(forecast([], [cost(2)], seats=2, devices=2)) == [(0, 2)]


def test_no_work_is_lost_or_made() -> None:
    costs = [cost(0.1 * n) for n in range(1, 40)]
    found = forecast([cost(1.5), cost(0)], costs, seats=8, devices=1)
    assert max(span.end_s for span in found) == pytest.approx(1.5 + sum(one.share_s for one in costs), abs=1e-3)
    assert [span.start_s for span in found] == sorted(span.start_s for span in found)
