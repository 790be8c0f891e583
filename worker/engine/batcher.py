"""Chooses the states that share the next forward pass. Pure policy: no torch, no Redis.

States of one ``key`` (model, latent shape, dtype, guided or not, adapters) can be stacked. The key whose state has
waited longest is served; within it the longest waiting come first. A batch is never held back to fill it up, and never
larger than its key's limit. States left over have waited longer than those just served, so none starves.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar


class Steppable(Protocol):
    """The attributes of a state that the policy reads."""

    @property
    def key(self) -> Hashable: ...

    @property
    def last_turn(self) -> int:
        """The turn in which the state was last stepped, or joined."""
        ...


State = TypeVar("State", bound=Steppable)


def pick_batch(states: Sequence[State], limit: Callable[[Any], int]) -> list[State]:
    """Choose the states of the next forward pass: all of one key, at most ``limit`` of it; empty if there are none."""
    if not states:
        return []
    key = min(states, key=lambda state: state.last_turn).key
    mates = sorted((state for state in states if state.key == key), key=lambda state: state.last_turn)
    return mates[: limit(key)]
