from dataclasses import dataclass

from worker.batcher import pick_batch


@dataclass
class Waiting:
    name: str
    key: str
    last_turn: int = 0


def names(states: list[Waiting]) -> list[str]:
    return [state.name for state in states]


def test_nothing_waits_nothing_is_picked() -> None:
    assert pick_batch([], 8) == []


def test_only_states_of_one_key_share_a_pass() -> None:
    states = [Waiting("a", "x"), Waiting("b", "y"), Waiting("c", "x")]
    assert names(pick_batch(states, 8)) == ["a", "c"]


def test_the_key_that_has_waited_longest_is_served() -> None:
    states = [Waiting("a", "x", 5), Waiting("b", "x", 5), Waiting("c", "y", 4)]
    assert names(pick_batch(states, 8)) == ["c"]


def test_of_too_many_the_longest_waiting_go_first() -> None:
    states = [Waiting("a", "x", 3), Waiting("b", "x", 1), Waiting("c", "x", 2)]
    assert names(pick_batch(states, 2)) == ["b", "c"]


def test_no_state_starves_among_many_keys() -> None:
    states = [Waiting(str(n), str(n % 5)) for n in range(23)]
    served = dict.fromkeys(names(states), 0)
    for turn in range(1, 201):
        for state in pick_batch(states, 3):
            state.last_turn = turn
            served[state.name] += 1
    assert min(served.values()) * 3 > max(served.values())
