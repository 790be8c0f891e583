"""What a run has found so far, kept on disk after every section: one that is cut off keeps its figures."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LeftOut:
    """Something that was not measured. ``failed``: it was tried."""

    what: str
    why: str
    failed: bool = False


@dataclass(frozen=True)
class Agreement:
    """Two pictures of one request, inside its mask. ``psnr`` in dB, None where they are equal; ``most``: the largest
    difference of a pixel, of 255."""

    model: str
    compared: str
    psnr: float | None
    most: int


@dataclass
class Results:
    """All figures of a run. Throughput, cells and loads are the dataclasses of their sections."""

    folder: Path
    machine: str
    device: str
    dtype: str
    date: str = field(default_factory=lambda: date.today().isoformat())
    began: float = field(default_factory=time.monotonic)
    rates: list[Any] = field(default_factory=list)
    cells: list[Any] = field(default_factory=list)
    ideals: dict[str, float] = field(default_factory=dict)  # model -> images/s at the matrix rate
    loads: dict[str, list[Any]] = field(default_factory=dict)  # model -> bench.throughput.report.Cell
    sides: dict[str, dict[str, str]] = field(default_factory=dict)  # model -> letter -> what it was
    agreements: list[Agreement] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "gpu.json"

    def peak(self, dtype: str) -> float:
        """TFLOP/s of the matrix rate."""
        return next(float(rate.tflops) for rate in self.rates if rate.dtype == dtype)

    def leave_out(self, what: str, why: str, failed: bool = False) -> None:
        self.left_out.append(LeftOut(what, why, failed))
        self.say(f"{what}: {'failed' if failed else 'left out'}: {why}")

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self.began:5.0f} s] {line}", file=sys.stderr, flush=True)

    def section(self, what: str, run: Callable[[], None]) -> None:
        """Run a section. Whatever goes wrong with it is written down, and the next one gets its turn."""
        self.say(what)
        try:
            run()
        except Exception as error:
            self.leave_out(what, f"{type(error).__name__}: {error}", failed=True)
        self.save()

    def save(self) -> None:
        fields = asdict(self) | {"folder": None, "began": None, "took_s": round(time.monotonic() - self.began, 1)}
        kept = {name: value for name, value in fields.items() if value is not None}
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(kept, indent=1) + "\n")
        partial.replace(self.file)
