"""Debian packages, fetched from the mirror that this machine's apt is set up with and unpacked without installing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def unpacked(package: str, version: str, cache: Path) -> Path:
    """The folder that holds the package's files, fetched into `cache` on the first call. Needs apt-get and dpkg-deb.

    Raises RuntimeError with apt's own words if that version cannot be had.
    """
    folder = cache / f"{package}_{version}"
    if folder.exists():
        return folder
    archives = cache / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    _run("apt-get", "download", f"{package}={version}", cwd=archives)
    (archive,) = archives.glob(f"{package}_*.deb")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    _run("dpkg-deb", "-x", str(archive), str(part), cwd=cache)
    archive.unlink()
    return part.rename(folder)


def _run(*command: str, cwd: Path) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError(f"{command[0]} is not on this machine: the packages are Debian's") from None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
