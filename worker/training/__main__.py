"""`python -m worker.training`: what `infill train` runs."""

from __future__ import annotations

import argparse
import sys

import torch

from worker.training.tuning_commands import add_tuning_commands


def main() -> None:
    arguments = make_parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sys.exit(arguments.command(arguments))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="infill train", description="Train for a model of the catalog.")
    add_tuning_commands(parser.add_subparsers(required=True))
    return parser


if __name__ == "__main__":
    main()
