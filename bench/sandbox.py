"""What a call into the sandbox costs beside the function itself: ``python -m bench.sandbox``.

Each function is called directly and in a warm child, in turns. ``give`` does nothing but return bytes it already has,
so its whole time in the child is the sandbox's; ``decode`` reads a JPEG of 4 megapixels to pixels. Processor time is
that of both processes: read it where the machine is busy.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.sandbox.errors import Limits
from jobs.sandbox.pool import Sandbox
from jobs.sandbox.process import Answer

LIMITS = Limits(cpu_s=20, wall_s=60, memory_bytes=1 << 30, input_bytes=32 << 20, output_bytes=200_000_000)
PHOTO_PX = 2000
FIGURES = ("wall ms, direct", "more", "processor ms, direct", "more", "wall", "processor")


def give(_: Sequence[memoryview], size: int) -> tuple[float, list[bytes]]:
    return time.process_time(), [_bytes(size)]


@cache
def _bytes(size: int) -> bytes:
    return b"\x7f" * size


def decode(buffers: Sequence[memoryview], _: None) -> tuple[float, list[NDArray[np.uint8]]]:
    began = time.process_time()
    with Image.open(io.BytesIO(buffers[0]), formats=("JPEG",)) as image:
        return began, [np.asarray(image.convert("RGB"))]


@dataclass(frozen=True)
class Cost:
    """Milliseconds of one call. ``clock_s``: the child's processor time so far, at its start."""

    wall: float
    core: float
    clock_s: float = 0.0


@dataclass(frozen=True)
class Costs:
    """One entry a turn."""

    direct: list[Cost]
    sandboxed: list[Cost]

    @classmethod
    def measure(cls, direct: Callable[[], object], sandboxed: Callable[[], Answer], calls: int) -> "Costs":
        """In turns. The first is a warm-up, and the last only ends the one before; neither is counted."""
        turns = [(timed(direct), timed(sandboxed)) for _ in range(calls + 2)]
        ours = [turn[1] for turn in turns]
        child = [(after.clock_s - cost.clock_s) * 1000 for cost, after in pairwise(ours)]
        both = [Cost(cost.wall, cost.core + spent) for cost, spent in zip(ours, child, strict=False)]
        return cls([turn[0] for turn in turns[1:-1]], both[1:])

    def cells(self) -> list[str]:
        """``FIGURES``: medians of the direct call, what the child's costs more, and the ratio above 1 ms."""
        times, ratios = list[str](), list[str]()
        for kind in ("wall", "core"):
            direct, ours = ([getattr(cost, kind) for cost in side] for side in (self.direct, self.sandboxed))
            plain = statistics.median(direct)
            more = statistics.median(child - here for here, child in zip(direct, ours, strict=True))
            times += [f"{plain:.2f}", f"{more:.2f}"]
            ratios.append(f"{1 + more / plain:.2f}x" if plain > 1 else "")
        return [*times, *ratios]


def timed(call: Callable[[], object]) -> Cost:
    """With the time that freeing what the call returned takes."""
    wall, core = time.perf_counter(), time.thread_time()
    answer = call()
    clock_s = answer.value if isinstance(answer, Answer) else 0.0
    del answer
    return Cost((time.perf_counter() - wall) * 1000, (time.thread_time() - core) * 1000, clock_s)


def photo() -> bytes:
    """A JPEG of 2000 x 2000 pixels and about 2 MB."""
    noise = np.random.default_rng(0).integers(0, 255, (PHOTO_PX // 4, PHOTO_PX // 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((PHOTO_PX, PHOTO_PX), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


def measure(function: Callable[..., object], buffer: bytes, argument: object, calls: int) -> Costs:
    sandbox = Sandbox(f"bench.sandbox:{function.__name__}", 1, LIMITS)
    try:
        sandbox.wait_until_ready(60)
        return Costs.measure(
            lambda: function([memoryview(buffer)], argument), lambda: sandbox.call([buffer], argument, 10), calls
        )
    finally:
        sandbox.close()


def main() -> None:
    from bench.record import Record, keep_option  # loads torch, which children need not

    parser = argparse.ArgumentParser(prog="python -m bench.sandbox", description=__doc__, parents=[keep_option()])
    parser.add_argument("--calls", type=int, default=100)
    chosen = parser.parse_args()
    calls = chosen.calls
    record = Record(["function", *FIGURES], notes=[f"p50 of {calls} calls."])
    for sent, returned in ((1_000, 1_000), (2_000_000, 300_000), (2_000_000, 12_000_000)):
        label = f"give, {sent / 1e6:g} MB in, {returned / 1e6:g} MB out"
        record.add(label, *measure(give, bytes(sent), returned, calls).cells())
    jpeg = photo()
    record.add(f"decode, {len(jpeg) / 1e6:.1f} MB in, 12 MB out", *measure(decode, jpeg, None, calls).cells())
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
