"""`infill train` up to the hand-over; the training itself is in tests/worker/training."""

import subprocess
import sys

import pytest


def infill(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "launch", *arguments], capture_output=True, text=True, check=False)


def test_help_names_every_command() -> None:
    shown = infill("--help")
    assert shown.returncode == 0
    assert all(f"\n    {command} " in shown.stdout for command in ("up", "demo", "train"))


@pytest.mark.parametrize("arguments", [(), ("sing",), ("--rank", "8")])
def test_what_cannot_be_trained_is_refused_with_what_can(arguments: tuple[str, ...]) -> None:
    refused = infill("train", *arguments)
    assert refused.returncode == 2
    assert "lora" in refused.stderr and "model" in refused.stderr


def test_the_options_are_those_of_the_training() -> None:
    shown = infill("train", "lora", "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: infill train lora")
    assert "--rank" in shown.stdout
    assert shown.stderr == ""
