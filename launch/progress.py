"""One line that shows how far a job, or many of them, are: redrawn on a terminal, printed now and then elsewhere."""

import sys
import time
from threading import Lock
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


class CountLine:
    """How many of ``total`` are done: a bar on a terminal, else a line every ``PLAIN_EVERY_S``. For several threads."""

    PLAIN_EVERY_S = 10.0
    LIVE_EVERY_S = 0.1

    def __init__(self, total: int, to: TextIO | None = None) -> None:
        self.total = total
        self.made = self.there = self.failed = 0
        self._to = to or sys.stderr
        self._live = self._to.isatty()
        self._began = self._shown_at = time.monotonic()
        self._waits_for = ""
        self._lock = Lock()

    @property
    def ended(self) -> int:
        return self.made + self.there + self.failed

    def count(self, *, made: int = 0, there: int = 0, failed: int = 0) -> None:
        with self._lock:
            self.made, self.there, self.failed = self.made + made, self.there + there, self.failed + failed
            if made:
                self._waits_for = ""
            now = time.monotonic()
            if now - self._shown_at >= (self.LIVE_EVERY_S if self._live else self.PLAIN_EVERY_S):
                self._show(now)

    def say(self, sentence: str) -> None:
        """A line of its own."""
        with self._lock:
            print(f"\r\x1b[K{sentence}" if self._live else sentence, file=self._to, flush=True)
            if self._live:
                self._show(time.monotonic())

    def waits(self, sentence: str) -> None:
        """Say why nothing goes on; once, until something has been made."""
        if sentence != self._waits_for:
            self._waits_for = sentence
            self.say(sentence)

    def close(self) -> None:
        """Leave the last state standing."""
        with self._lock:
            if self._live:
                self._show(time.monotonic())
                print(file=self._to, flush=True)

    def _show(self, now: float) -> None:
        self._shown_at = now
        text = count_text(self.total, self.ended, self.failed, self.made / max(now - self._began, 1e-3))
        print(f"\r\x1b[K{text}" if self._live else text, end="" if self._live else "\n", file=self._to, flush=True)


def count_text(total: int, ended: int, failed: int, rate: float) -> str:
    """``[##########....................]  3,400/10,000  2 failed  4.1/s  27 min to go``"""
    bar = WIDTH * ended // max(total, 1)
    parts = [f"[{'#' * bar}{'.' * (WIDTH - bar)}]", f"{ended:,}/{total:,}"]
    if failed:
        parts.append(f"{failed:,} failed")
    if rate and ended < total:
        parts += [f"{rate:.1f}/s", f"{duration_text((total - ended) / rate)} to go"]
    return "  ".join(parts)


def duration_text(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
