"""`infill train`: hands over to the training, which lies on the worker's side."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

from launch.errors import LaunchError

NEEDED = ("torch", "diffusers", "peft", "tqdm", "matplotlib")


def train(arguments: Sequence[str]) -> NoReturn:
    """Become `python -m worker.training ...`: its arguments, exit status and Ctrl-C are then its own.

    Raises LaunchError if what it needs is not installed.
    """
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise LaunchError(f"training needs {', '.join(missing)}: pip install 'infill[worker,training]'")
    quiet = {"TRANSFORMERS_VERBOSITY": "error"} | os.environ  # else it tells of a package that nobody needs
    os.execve(sys.executable, [sys.executable, "-m", "worker.training", *arguments], quiet)
