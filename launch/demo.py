"""``infill demo``: the whole path with a sample photo: what a mask covers is removed, and the photo is extended."""

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
RESULTS = ("removed.png", "extended.png")
SHEET = "before-after.png"
SEED = 7
ASPECT = "5:4"
TIMEOUT_S = 300.0
POLL_S = 0.1
INTERRUPTED = 130  # what shells make of a command that Ctrl-C ended


def demo(settings: LaunchSettings, say: Callable[[str], None]) -> int:
    """Remove what ``mask.png`` covers in ``photo.png``, extend the photo to 5:4, write both, print the times.

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
        finished = _edit(stack, signals, say, photo, mask)
    except Interrupted:
        say("interrupted")
        return INTERRUPTED
    finally:
        stack.stop()
    for result, name in zip(finished, RESULTS, strict=True):
        result.save(folder / name)
    _report(finished, source, folder, say)
    return 0


def _edit(
    stack: Stack, signals: StopSignals, say: Callable[[str], None], photo: bytes, mask: bytes
) -> tuple[Result, Result]:
    try:
        with Client(stack.url) as client:
            removal = client.submit(photo, mask, task="remove", seed=SEED)
            extension = client.submit(photo, task="extend", aspect=ASPECT, seed=SEED)
            say(f"jobs {removal.id} (remove) and {extension.id} (extend) accepted")
            removed, extended = (_follow(client, job, stack, signals) for job in (removal, extension))
            return client.result(removed), client.result(extended)
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


def _report(finished: tuple[Result, Result], source: Path, folder: Path, say: Callable[[str], None]) -> None:
    from launch.side_by_side import changed_in_photo, changed_outside_mask, write_side_by_side  # brings NumPy
    from launch.table import timing_table

    (photo, mask), (removed, extended) = (source / name for name in INPUTS), (folder / name for name in RESULTS)
    write_side_by_side(photo, mask, removed, extended, folder / SHEET)
    removal, extension = (result.job for result in finished)
    say(f"\n{timing_table(removal.timings or {})}\n")
    border = extension.extend
    assert border is not None, "a job that extends says by how much"
    counted = changed_outside_mask(photo, mask, removed), changed_in_photo(photo, extended, border.left, border.top)
    reported = [job.mask.changed_outside_mask for job in (removal, extension)]
    for name, said, count in zip(("removal", "extension"), reported, counted, strict=True):
        say(f"{name}: changed_outside_mask: {said} (counted again here: {count})")
    if any((*reported, *counted)):
        raise LaunchError("Pixels outside the mask have changed; that must never happen.")
    say(f"wrote {', '.join(shown(folder / name) for name in (*RESULTS, SHEET))}")


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
