"""``infill up``: start everything, say where it is, keep it running until Ctrl-C."""

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from launch.errors import Interrupted
from launch.settings import SAMPLE, LaunchSettings
from launch.stack import Stack
from launch.stop_signals import StopSignals


def up(settings: LaunchSettings, say: Callable[[str], None]) -> int:
    """Serve until Ctrl-C or SIGTERM; returns the exit status. Raises LaunchError."""
    signals = StopSignals()
    stack = Stack(settings, "up", signals, say)
    try:
        stack.start()
        say(_welcome(stack))
        stack.watch()
        say("stopping: running jobs are finished first (Ctrl-C again: back into the queue)")
    except Interrupted:
        say("stopping before everything was started")
    finally:
        stack.stop()
    say("stopped")
    return 0


def _welcome(stack: Stack) -> str:
    logs = stack.folder.log("api").parent
    return f"""
  API         {stack.url}/v1/inpaint   (reference: {stack.url}/docs)
  web page    {stack.url}/
  logs        {shown(logs)}

Try it, from this folder:

  {curl_line(stack.url)}

Ctrl-C stops everything.
"""


def curl_line(url: str) -> str:
    """A command that repaints the demo photo into ``repainted.png``."""
    photo, mask = (shlex.quote(shown(SAMPLE / name)) for name in ("photo.png", "mask.png"))
    return f"curl -sSf -H 'Accept: image/png' -F image=@{photo} -F mask=@{mask} -o repainted.png {url}/v1/inpaint"


def shown(path: Path) -> str:
    """The path as a person in the current folder would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
