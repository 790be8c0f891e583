"""One line that shows how far a job is: redrawn on a terminal, printed at each change of status elsewhere."""

import sys
from typing import Self, TextIO

from infill_client import Job

WIDTH = 30


class ProgressLine:
    """``with ProgressLine() as line: line.show(job)``."""

    def __init__(self, to: TextIO | None = None) -> None:
        self._last = ""
        self._to = to or sys.stdout
        self._live = self._to.isatty()

    def show(self, job: Job) -> None:
        line = progress_text(job) if self._live else job.status
        if line == self._last:
            return
        self._last = line
        print(f"\r\x1b[K{line}" if self._live else line, end="" if self._live else "\n", file=self._to, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live and self._last:
            print(file=self._to, flush=True)  # leave the line standing


def progress_text(job: Job) -> str:
    """``running    [##########....................]  7/20  0.9 s to go``"""
    step, steps, eta_ms = job.progress.step, job.progress.steps, job.progress.eta_ms
    done = WIDTH * step // max(steps, 1)
    rest = f"  {eta_ms / 1000:.1f} s to go" if eta_ms and job.status == "running" else ""
    return f"{job.status:<10} [{'#' * done}{'.' * (WIDTH - done)}] {step:>3}/{steps}{rest}"
