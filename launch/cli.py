"""The ``infill`` command: options in ``options.py``, and a module a command, imported when it is run."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress

from launch.errors import LaunchError
from launch.options import parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``infill <command>``; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    training = arguments[:1] == ["train"]  # the training reads its own options
    options = parser().parse_args(arguments[:2] if training else arguments)
    try:
        if training:
            from launch.train import train

            train(arguments[1:])
        return _run(options)
    except LaunchError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return 130


def _run(options: Namespace) -> int:
    """Raises LaunchError."""
    match options.command:
        case "up" | "demo" | "keys" | "config":
            return _with_settings(options)
        case "api" | "worker":
            return _become({"api": "app", "worker": "worker"}[options.command])
        case "edit":
            from launch.edit import edit

            return edit(options, say)
        case "batch":
            from launch.batch import batch

            return batch(options, say)
        case "completion":
            import shtab

            say(shtab.complete(parser(), options.shell))
            return 0
        case _:
            from launch.calls import call

            return call(options, say)


def _with_settings(options: Namespace) -> int:
    from pydantic import ValidationError

    from jobs.environment import faults, unknown_names
    from launch.settings import LaunchSettings

    given = {name: value for name, value in vars(options).items() if value is not None}
    try:
        settings = LaunchSettings(**given)
    except ValidationError as error:
        raise LaunchError("; ".join(faults(error))) from None
    for sentence in unknown_names(os.environ):
        print(f"infill: warning: {sentence}", file=sys.stderr, flush=True)
    if options.command == "config":
        from launch.config import config

        return config(settings, given, say)
    if options.command == "keys":
        from launch.keys import keys

        return keys(settings, options, say)
    if options.command == "up":
        from launch.up import up

        return up(settings, say)
    from launch.demo import demo

    return demo(settings, say)


def _become(module: str) -> int:
    """Hand over to ``python -m <module>``: its signals and its exit status are then its own."""
    sys.stdout.flush()
    return os.execv(sys.executable, [sys.executable, "-P", "-m", module])


def say(line: str) -> None:
    """Print a line; a terminal that has gone away is no reason to leave processes behind."""
    with suppress(OSError):
        print(line, flush=True)


def _fail(error: LaunchError) -> int:
    if error.log:
        from launch.process import tail

        if last := tail(error.log):
            print(f"--- the end of {error.log}\n{last}\n---", file=sys.stderr)
    print(f"infill: {error}", file=sys.stderr, flush=True)
    return 1
