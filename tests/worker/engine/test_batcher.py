from collections.abc import Callable
from dataclasses import dataclass

from worker.engine.batcher import pick_batch


@dataclass
class Waiting:
    name: str
    key: str
    last_turn: int = 0


def at_most(images: int) -> Callable[[object], int]:
    return lambda _: images


def names(states: list[Waiting]) -> list[str]:
    return [state.name for state in states]


def test_nothing_waits_nothing_is_picked() -> None:
    assert pick_batch([], at_most(8)) == []


def test_only_states_of_one_key_share_a_pass() -> None:
    states = [Waiting("a", "x"), Waiting("b", "y"), Waiting("c", "x")]
    assert names(pick_batch(states, at_most(8))) == ["a", "c"]


def test_the_key_that_has_waited_longest_is_served() -> None:
    states = [Waiting("a", "x", 5), Waiting("b", "x", 5), Waiting("c", "y", 4)]
    assert names(pick_batch(states, at_most(8))) == ["c"]


def test_of_too_many_the_longest_waiting_go_first() -> None:
    states = [Waiting("a", "x", 3), Waiting("b", "x", 1), Waiting("c", "x", 2)]
    assert names(pick_batch(states, at_most(2))) == ["b", "c"]


def test_no_state_starves_among_many_keys() -> None:
    states = [Waiting(str(n), str(n % 5)) for n in range(23)]
    served = dict.fromkeys(names(states), 0)
    for turn in range(1, 201):
        for state in pick_batch(states, at_most(3)):
            state.last_turn = turn
            served[state.name] += 1
    assert min(served.values()) * 3 > max(served.values())


def test_each_key_has_its_own_limit() -> None:
    states = [Waiting(name, name[0], last_turn) for last_turn, name in enumerate(["x1", "x2", "x3", "y1", "y2", "y3"])]
    limits = {"x": 1, "y": 2}
    assert names(pick_batch(states, limits.__getitem__)) == ["x1"]
    assert names(pick_batch(states[3:], limits.__getitem__)) == ["y1", "y2"]


def test_a_key_with_a_small_limit_neither_starves_nor_starves_the_others() -> None:
    """Large canvases, one a pass, beside small ones: between two steps of an image each key has had its turn."""
    states = [Waiting(f"large{n}", "large") for n in range(6)] + [Waiting("small", "small"), Waiting("other", "other")]
    limits = {"large": 1, "small": 8, "other": 8}
    waited = dict.fromkeys(names(states), 0)
    for turn in range(1, 101):
        for state in pick_batch(states, limits.__getitem__):
            waited[state.name] = max(waited[state.name], turn - state.last_turn)
            state.last_turn = turn
    assert set(waited.values()) == {8}  # six passes of large ones, one of each other key
