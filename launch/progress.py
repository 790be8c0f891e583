"""One line that shows how far a job is: redrawn on a terminal, printed at each change of status elsewhere."""

import sys
from typing import Self

from launch.client import Job

WIDTH = 30


class ProgressLine:
    """``with ProgressLine() as line: line.show(job)``."""

    def __init__(self) -> None:
        self._last = ""
        self._live = sys.stdout.isatty()

    def show(self, job: Job) -> None:
        line = progress_text(job) if self._live else str(job["status"])
        if line == self._last:
            return
        self._last = line
        print(f"\r\x1b[K{line}" if self._live else line, end="" if self._live else "\n", flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live and self._last:
            print(flush=True)  # leave the line standing


def progress_text(job: Job) -> str:
    """``running    [##########....................]  7/20  0.9 s to go``"""
    step, steps = int(job["progress"]["step"]), int(job["progress"]["steps"])
    done = WIDTH * step // max(steps, 1)
    eta_ms = job["progress"].get("eta_ms")
    rest = f"  {eta_ms / 1000:.1f} s to go" if eta_ms and job["status"] == "running" else ""
    return f"{job['status']:<10} [{'#' * done}{'.' * (WIDTH - done)}] {step:>3}/{steps}{rest}"
