"""``infill demo``: the whole path once, with the photo and the mask in ``demo/``."""

import time
from collections.abc import Callable
from pathlib import Path

from launch.client import Client, Finished
from launch.errors import Interrupted, LaunchError
from launch.progress import ProgressLine
from launch.settings import CHECKOUT, LaunchSettings
from launch.stack import Stack
from launch.stop_signals import StopSignals

SEED = 7
TIMEOUT_S = 300.0
POLL_S = 0.1
INTERRUPTED = 130  # what shells make of a command that Ctrl-C ended


def demo(settings: LaunchSettings, say: Callable[[str], None], folder: Path = CHECKOUT / "demo") -> int:
    """Repaint ``folder/photo.png``, write the pictures, print the times.

    Returns the exit status. Raises LaunchError.
    """
    signals = StopSignals()
    stack = Stack(settings, "demo", signals, say)
    try:
        stack.folder.clear_redis()
        stack.start()
        finished = _repaint(stack, signals, say, folder)
    except Interrupted:
        say("interrupted")
        return INTERRUPTED
    finally:
        stack.stop()
    _show(finished, say, folder)
    return 0


def _repaint(stack: Stack, signals: StopSignals, say: Callable[[str], None], folder: Path) -> Finished:
    with Client(stack.url) as client:
        job_id = client.submit(folder / "photo.png", folder / "mask.png", SEED)
        say(f"job {job_id} accepted")
        line = ProgressLine()
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            signals.check()
            job = client.job(job_id)
            line.show(job)
            if job["status"] == "succeeded":
                line.close()
                return client.finished(job)
            if job["status"] in ("failed", "canceled"):
                line.close()
                raise LaunchError(f"The job {job['status']}: {job['error']}", stack.folder.log("worker-1"))
            stack.check()
            time.sleep(POLL_S)
    raise LaunchError(f"The job has not ended after {TIMEOUT_S:g} s.", stack.folder.log("worker-1"))


def _show(finished: Finished, say: Callable[[str], None], folder: Path) -> None:
    from launch.side_by_side import changed_outside_mask, write_side_by_side  # brings NumPy and its threads
    from launch.table import timing_table

    result = folder / "result.png"
    result.write_bytes(finished.png)
    write_side_by_side(folder / "photo.png", folder / "mask.png", result, folder / "before-after.png")
    say(f"\n{timing_table(finished.job['timings'])}\n")
    reported = finished.job["mask"]["changed_outside_mask"]
    counted = changed_outside_mask(folder / "photo.png", folder / "mask.png", result)
    say(f"changed_outside_mask: {reported}   (counted again here: {counted})")
    if reported != 0 or counted != 0:
        raise LaunchError("Pixels outside the mask have changed; that must never happen.")
    say(f"wrote {result} and {folder / 'before-after.png'}")
