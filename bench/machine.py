"""What machine a figure was measured on."""

import os
import platform
from pathlib import Path

import torch


def describe() -> str:
    """One line: processor or GPU, cores, load, versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open() as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
