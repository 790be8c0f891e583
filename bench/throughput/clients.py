"""Callers: a closed loop (each sends its next request when it has its answer) and an open one (Poisson arrivals)."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import numpy as np

from bench.processor import used_by_sessions_s
from bench.throughput.sides import Side
from bench.throughput.workload import Case, outside_changed

TIMEOUT_S = 600.0


@dataclass
class Turn:
    """What one side did in one turn. Times in seconds."""

    span_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)  # share of the pixels outside the mask, per answer
    errors: list[str] = field(default_factory=list)
    processor_s: float = 0.0  # of all the side's processes


@dataclass(frozen=True)
class Limits:
    """Where a turn ends: no request is begun later than ``seconds``, nor more than ``requests`` a client.

    Every client sends one, however slow the server is.
    """

    seconds: float
    requests: int


def closed(side: Side, cases: Sequence[Case], clients: int, limits: Limits) -> Turn:
    """``clients`` callers without a pause between answer and next request."""

    async def play(turn: "_Turn") -> None:
        await asyncio.gather(*(caller(turn) for _ in range(clients)))

    async def caller(turn: "_Turn") -> None:
        for sent in range(limits.requests):
            if sent and turn.elapsed_s > limits.seconds:
                return
            await turn.ask()

    return _run(side, cases, play)


def poisson(side: Side, cases: Sequence[Case], rate: float, requests: int, seed: int = 0) -> Turn:
    """``requests`` arrivals at ``rate`` a second, whether the earlier ones were answered or not.

    The same seed gives every side the same arrivals. A latency counts from the arrival.
    """
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))

    async def play(turn: "_Turn") -> None:
        await asyncio.gather(*(arrival(turn, float(at)) for at in arrivals))

    async def arrival(turn: "_Turn", at: float) -> None:
        await asyncio.sleep(at)
        await turn.ask()

    return _run(side, cases, play)


class _Turn:
    """A turn while it runs. Answers are kept and looked at afterwards, so that looking costs the servers nothing."""

    def __init__(self, side: Side, cases: Sequence[Case], client: httpx.AsyncClient) -> None:
        self.side, self.cases, self.client = side, cases, client
        self.done = Turn()
        self.answers: list[tuple[Case, bytes]] = []
        self._next = count()
        self._began = time.perf_counter()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._began

    async def ask(self) -> None:
        case = self.cases[next(self._next) % len(self.cases)]
        began = time.perf_counter()
        try:
            answer = await self.side.ask(self.client, case)
        except httpx.HTTPError as error:
            self.done.errors.append(f"{type(error).__name__}: {error}")
            return
        self.done.latencies_s.append(time.perf_counter() - began)
        self.answers.append((case, answer))

    def verify(self) -> Turn:
        for case, answer in self.answers:
            try:
                self.done.changed.append(outside_changed(case, answer))
            except (AssertionError, OSError) as error:
                self.done.errors.append(f"wrong answer: {error}")
        return self.done


def _run(side: Side, cases: Sequence[Case], play: Callable[[_Turn], Coroutine[Any, Any, None]]) -> Turn:
    async def run() -> _Turn:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client:
            turn = _Turn(side, cases, client)
            await play(turn)
            turn.done.span_s = turn.elapsed_s
            return turn

    side.resume()
    before_s = used_by_sessions_s(side.sessions)
    try:
        turn = asyncio.run(run())
        turn.done.processor_s = used_by_sessions_s(side.sessions) - before_s
    finally:
        side.pause()
    return turn.verify()
