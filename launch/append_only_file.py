"""Mending a Redis append-only file that a power cut or a full disk has left with a damaged end.

Redis itself loads a file that is merely cut short (``aof-load-truncated``); zeros or garbage at its end stop its start.
"""

import shutil
import subprocess
import time
from pathlib import Path

CHECK = "valkey-check-aof"
"""A Redis or Valkey server that is started under this name, or as redis-check-aof, is that program."""
TIMEOUT_S = 300.0


def repair(data: Path, server: Path) -> str | None:
    """Cut an append-only file in ``data`` back to its last whole command, after a copy was put aside.

    Args:
        data: the server's folder.
        server: its program, Redis or Valkey.

    Returns:
        A sentence about what was done; None where the file is whole, or where there is none.
    """
    folder = data / "appendonlydir"
    # the newest part is the one that was being written; of its snapshot, Valkey 9's checker does not know the form
    parts = sorted(folder.glob("*.incr.aof"), key=lambda part: part.stat().st_mtime_ns)
    if not parts or _check(server, parts[-1]):
        return None
    copy = data / f"appendonlydir.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    shutil.copytree(folder, copy)
    before = parts[-1].stat().st_size
    if not _check(server, parts[-1], "--fix"):
        return f"its append-only file is damaged and could not be mended; a copy is in {copy}"
    lost = before - parts[-1].stat().st_size
    return f"its append-only file was damaged and lost its last {lost} bytes; a copy from before is in {copy}"


def _check(server: Path, file: Path, *options: str) -> bool:
    """Whether the check ends well; with ``--fix`` it asks first."""
    name = CHECK if "valkey" in server.name else CHECK.replace("valkey", "redis")
    try:
        done = subprocess.run(
            [name, *options, str(file)],
            executable=server,
            input=b"y\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True  # nothing is known to be damaged, so nothing is touched
    return done.returncode == 0
