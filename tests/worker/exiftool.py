"""What ExifTool reads in files: independent of what the worker writes them with."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.programs import program


def read(folder: Path, files: Mapping[str, bytes], *options: str) -> dict[str, dict[str, Any]]:
    """Of each file, by its name: the values by group and tag, those of tags that ExifTool does not know too."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [program("exiftool"), "-json", "-G1", "-a", "-u", "-n", *options, *files]
    shown = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
    return {found["SourceFile"]: found for found in json.loads(shown)}
