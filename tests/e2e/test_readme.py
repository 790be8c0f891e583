"""The README's curl lines, as they stand there, against the running service."""

import io
import json
import re
import subprocess
from pathlib import Path

from PIL import Image

from tests.e2e.stack import ROOT, Stack
from tests.programs import program

LINES: list[str] = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def run(stack: Stack, line: str, folder: Path) -> bytes:
    program("curl")
    if not (folder / "demo").exists():
        (folder / "demo").symlink_to(ROOT / "demo")
    command = line.replace("http://127.0.0.1:8000", stack.urls[0])
    return subprocess.run(["bash", "-ec", command], cwd=folder, capture_output=True, check=True, timeout=90).stdout


def test_the_readme_has_three_of_them() -> None:
    assert len(LINES) == 3


def test_the_first_writes_the_repainted_photo(stack: Stack, tmp_path: Path) -> None:
    run(stack, LINES[0], tmp_path)
    with Image.open(ROOT / "demo" / "photo.png") as photo:
        size = photo.size
    with Image.open(io.BytesIO((tmp_path / "repainted.png").read_bytes())) as image:
        assert image.format == "PNG" and image.size == size


def test_the_second_answers_with_the_job(stack: Stack, tmp_path: Path) -> None:
    job = json.loads(run(stack, LINES[1], tmp_path))
    assert job["status"] in ("queued", "running") and job["seeds"] == [42]


def test_the_third_lists_the_models(stack: Stack, tmp_path: Path) -> None:
    assert json.loads(run(stack, LINES[2], tmp_path))["models"][0]["name"] == "pocket"
