"""``infill demo``: the whole path once, with a sample photo and mask."""

import time
from collections.abc import Callable
from pathlib import Path

from infill_client import Client, ClientError, Job, Result
from launch.errors import Interrupted, LaunchError
from launch.progress import ProgressLine
from launch.settings import SAMPLE, LaunchSettings
from launch.stack import Stack
from launch.stop_signals import StopSignals
from launch.up import shown

INPUTS = ("photo.png", "mask.png")
SEED = 7
TIMEOUT_S = 300.0
POLL_S = 0.1
INTERRUPTED = 130  # what shells make of a command that Ctrl-C ended


def demo(settings: LaunchSettings, say: Callable[[str], None]) -> int:
    """Repaint ``photo.png`` where ``mask.png`` is white, write the pictures into the demo folder, print the times.

    Photo and mask are those of the demo folder if it has one of them, else those that ship. Returns the exit status.
    Raises LaunchError.
    """
    folder = settings.demo_dir
    source = folder if any((folder / name).exists() for name in INPUTS) else SAMPLE
    photo, mask = (_read(source / name) for name in INPUTS)
    _make(folder)
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
    finished.save(folder / "result.png")
    _report(finished, source, folder, say)
    return 0


def _repaint(stack: Stack, signals: StopSignals, say: Callable[[str], None], photo: bytes, mask: bytes) -> Result:
    try:
        with Client(stack.url) as client:
            job = client.submit(photo, mask, seed=SEED)
            say(f"job {job.id} accepted")
            return client.result(_follow(client, job, stack, signals))
    except ClientError as error:
        raise LaunchError(str(error), stack.folder.log("worker-1")) from error


def _follow(client: Client, job: Job, stack: Stack, signals: StopSignals) -> Job:
    """Show the job's progress until it has ended."""
    deadline = time.monotonic() + TIMEOUT_S
    with ProgressLine() as line:
        while time.monotonic() < deadline:
            signals.check()
            job = client.job(job.id)
            line.show(job)
            if job.ended:
                return job
            stack.check()
            time.sleep(POLL_S)
    raise LaunchError(f"The job has not ended after {TIMEOUT_S:g} s.", stack.folder.log("worker-1"))


def _report(finished: Result, source: Path, folder: Path, say: Callable[[str], None]) -> None:
    from launch.side_by_side import changed_outside_mask, write_side_by_side  # brings NumPy and its threads
    from launch.table import timing_table

    (photo, mask), result = (source / name for name in INPUTS), folder / "result.png"
    write_side_by_side(photo, mask, result, folder / "before-after.png")
    say(f"\n{timing_table(finished.job.timings or {})}\n")
    reported, counted = finished.job.mask.changed_outside_mask, changed_outside_mask(photo, mask, result)
    say(f"changed_outside_mask: {reported} (counted again here: {counted})")
    if reported != 0 or counted != 0:
        raise LaunchError("Pixels outside the mask have changed; that must never happen.")
    say(f"wrote {shown(result)} and {shown(folder / 'before-after.png')}")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"{folder} cannot be made: {error.strerror}. Set INFILL_DEMO_DIR.") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}.") from error
