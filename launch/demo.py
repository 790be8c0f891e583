"""``infill demo``: the whole path once, with a sample photo and mask."""

import time
from collections.abc import Callable
from pathlib import Path

from launch.client import Client, Finished, Job
from launch.errors import Interrupted, LaunchError
from launch.progress import ProgressLine
from launch.settings import LaunchSettings
from launch.stack import Stack
from launch.stop_signals import StopSignals
from launch.up import shown

SEED = 7
TIMEOUT_S = 300.0
POLL_S = 0.1
ENDED = ("succeeded", "failed", "canceled")
INTERRUPTED = 130  # what shells make of a command that Ctrl-C ended


def demo(settings: LaunchSettings, say: Callable[[str], None]) -> int:
    """Repaint ``photo.png`` of the demo folder, write the pictures, print the times.

    Returns the exit status. Raises LaunchError.
    """
    folder = settings.demo_dir
    photo, mask = (_read(folder / name) for name in ("photo.png", "mask.png"))
    signals = StopSignals()
    stack = Stack(settings, "demo", signals, say)
    try:
        stack.folder.clear_redis()
        stack.start()
        finished = _repaint(stack, signals, say, photo, mask)
    except Interrupted:
        say("interrupted")
        return INTERRUPTED
    finally:
        stack.stop()
    (folder / "result.png").write_bytes(finished.png)
    _report(finished, folder, say)
    return 0


def _repaint(stack: Stack, signals: StopSignals, say: Callable[[str], None], photo: bytes, mask: bytes) -> Finished:
    with Client(stack.url) as client:
        job_id = client.submit(photo, mask, SEED)
        say(f"job {job_id} accepted")
        job = _follow(client, job_id, stack, signals)
        if job["status"] != "succeeded":
            raise LaunchError(f"The job ended as {job['status']}: {job['error']}", stack.folder.log("worker-1"))
        return client.finished(job)


def _follow(client: Client, job_id: str, stack: Stack, signals: StopSignals) -> Job:
    """Show the job's progress until it has ended."""
    deadline = time.monotonic() + TIMEOUT_S
    with ProgressLine() as line:
        while time.monotonic() < deadline:
            signals.check()
            job = client.job(job_id)
            line.show(job)
            if job["status"] in ENDED:
                return job
            stack.check()
            time.sleep(POLL_S)
    raise LaunchError(f"The job has not ended after {TIMEOUT_S:g} s.", stack.folder.log("worker-1"))


def _report(finished: Finished, folder: Path, say: Callable[[str], None]) -> None:
    from launch.side_by_side import changed_outside_mask, write_side_by_side  # brings NumPy and its threads
    from launch.table import timing_table

    photo, mask, result = (folder / name for name in ("photo.png", "mask.png", "result.png"))
    write_side_by_side(photo, mask, result, folder / "before-after.png")
    say(f"\n{timing_table(finished.job['timings'])}\n")
    reported, counted = finished.job["mask"]["changed_outside_mask"], changed_outside_mask(photo, mask, result)
    say(f"changed_outside_mask: {reported} (counted again here: {counted})")
    if reported != 0 or counted != 0:
        raise LaunchError("Pixels outside the mask have changed; that must never happen.")
    say(f"wrote {shown(result)} and {shown(folder / 'before-after.png')}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}.") from error
