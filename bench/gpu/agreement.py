"""Whether the sides paint the same: each request alone and among others, and one side's picture beside another's."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import replace

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.gpu.results import Agreement
from bench.throughput.sides import Side
from bench.throughput.workload import Case

TIMEOUT_S = 600.0
OTHER_SEED = 1000


def agreements(model: str, sides: Sequence[Side], cases: Sequence[Case]) -> list[Agreement]:
    """The first case alone and together with all others on every side; then side against side, each alone.

    A last line is for scale: how far apart two pictures are that differ in their seed only.
    """
    first = cases[0]
    alone = {side.name: _ask(side, [first])[0] for side in sides}
    found = []
    for side in sides:
        together = _ask(side, cases)[0]
        found.append(
            _compare(model, f"{side.name} alone, {side.name} among {len(cases)}", alone[side.name], together, first)
        )
    leader = sides[0]
    found += [
        _compare(model, f"{leader.name} alone, {other.name} alone", alone[leader.name], alone[other.name], first)
        for other in sides[1:]
    ]
    another = _ask(leader, [replace(first, seed=first.seed + OTHER_SEED)])[0]
    return [*found, _compare(model, f"{leader.name}, another seed", alone[leader.name], another, first)]


def _ask(side: Side, cases: Sequence[Case]) -> list[bytes]:
    """All cases at once; the answers in their order."""

    async def run() -> list[bytes]:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            return list(await asyncio.gather(*(side.ask(client, case) for case in cases)))

    side.resume()
    try:
        return asyncio.run(run())
    finally:
        side.pause()


def _compare(model: str, compared: str, one: bytes, other: bytes, case: Case) -> Agreement:
    left, right = (_pixels(answer)[case.hole] for answer in (one, other))
    difference = np.abs(left - right)
    error = float(np.mean(difference**2))
    psnr = 10 * float(np.log10(255**2 / error)) if error else None
    return Agreement(model, compared, psnr, int(difference.max()))


def _pixels(answer: bytes) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(answer)) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)
