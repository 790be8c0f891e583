"""The ``infill`` command."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from launch.errors import LaunchError
from launch.process import tail
from launch.settings import LaunchSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``infill <command>``; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    training = arguments[:1] == ["train"]  # the training reads its own options
    parsed = vars(_parser().parse_args(arguments[:2] if training else arguments))
    options: dict[str, Any] = {name: value for name, value in parsed.items() if value is not None}
    command = options.pop("command")
    try:
        if training:
            from launch.train import train

            train(arguments[1:])
        settings = LaunchSettings(**options)
        if command == "up":
            from launch.up import up

            return up(settings, say)
        from launch.demo import demo

        return demo(settings, say)
    except LaunchError as error:
        return _fail(error)
    except ValidationError as error:
        return _fail(LaunchError("; ".join(_fault(fault) for fault in error.errors())))


def say(line: str) -> None:
    """Print a line; a terminal that has gone away is no reason to leave processes behind."""
    with suppress(OSError):
        print(line, flush=True)


def _fail(error: LaunchError) -> int:
    if error.log and (last := tail(error.log)):
        print(f"--- the end of {error.log}\n{last}\n---", file=sys.stderr)
    print(f"infill: {error}", file=sys.stderr, flush=True)
    return 1


def _fault(fault: object) -> str:
    assert isinstance(fault, dict)
    return f"INFILL_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="infill", description="Inpainting over HTTP. Settings are INFILL_* variables; options override them."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="up | demo | train")
    for name, text in (
        ("up", "start Redis, the API and workers, and serve until Ctrl-C"),
        ("demo", "start the same, repaint the demo photo, show the times, stop"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--workers", type=int, help="worker processes (1)")
        command.add_argument("--host", help="address the API listens on (127.0.0.1)")
        command.add_argument("--port", type=int, help="port of the API (8000, or the next free one)")
    text = "train a LoRA adapter or a model on a folder of photos"
    kinds = commands.add_parser("train", help=text, description=text).add_subparsers(
        required=True, metavar="lora | model"
    )
    kinds.add_parser("lora", add_help=False, help="an adapter; infill train lora --help lists the options")
    kinds.add_parser("model", add_help=False, help="the network itself; infill train model --help")
    return parser
