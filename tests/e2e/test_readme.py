"""The README's curl lines, as they stand there, against the running service."""

import io
import json
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image
from redis import Redis

from app.settings import ApiSettings
from jobs.schema import JobProblem
from launch.side_by_side import changed_outside_mask
from tests.app.processes import api_process
from tests.app.settling import Settler
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack
from tests.programs import program

LINES: list[str] = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
API_LINES = re.findall(r"```\n(curl -sSf .*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
IMAGE_LINES = [LINES[0], *(line for line in API_LINES if "/v1/inpaint" in line)]
"""Those that write the image to a file."""


def command(url: str, line: str, folder: Path) -> list[str]:
    program("curl")
    if not (folder / "launch").exists():
        (folder / "launch").symlink_to(ROOT / "launch")
    return ["bash", "-ec", line.replace("http://127.0.0.1:8000", url)]


def run(stack: Stack, line: str, folder: Path) -> bytes:
    arguments = command(stack.urls[0], line, folder)
    return subprocess.run(arguments, cwd=folder, capture_output=True, check=True, timeout=90).stdout


def test_the_readme_has_three_of_them() -> None:
    assert len(LINES) == 3


def test_the_first_writes_the_repainted_photo(stack: Stack, tmp_path: Path) -> None:
    run(stack, LINES[0], tmp_path)
    with Image.open(ROOT / "launch" / "sample" / "photo.png") as photo:
        size = photo.size
    with Image.open(io.BytesIO((tmp_path / "repainted.png").read_bytes())) as image:
        assert image.format == "PNG" and image.size == size


def test_the_second_answers_with_the_job(stack: Stack, tmp_path: Path) -> None:
    job = json.loads(run(stack, LINES[1], tmp_path))
    assert job["status"] in ("queued", "running") and job["seeds"] == [42]


def test_the_third_lists_the_models(stack: Stack, tmp_path: Path) -> None:
    assert json.loads(run(stack, LINES[2], tmp_path))["models"][0]["name"] == "pocket"


def test_the_line_of_the_api_page_that_finds_a_mask_writes_one(stack: Stack, tmp_path: Path) -> None:
    (line,) = (line for line in API_LINES if "/v1/masks" in line)
    run(stack, line, tmp_path)
    with Image.open(tmp_path / "mask.png") as mask, Image.open(PHOTO) as photo:
        assert mask.size == photo.size and mask.getextrema()[1] == 255


def test_the_javascript_writes_the_repainted_photo(stack: Stack, tmp_path: Path) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) == 6
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    (tmp_path / "edit.mjs").write_text(code.replace("http://127.0.0.1:8000", stack.urls[0]))
    subprocess.run([program("node"), "edit.mjs"], cwd=tmp_path, check=True, timeout=90)
    assert changed_outside_mask(PHOTO, MASK, tmp_path / "repainted.png") == 0


@pytest.fixture
def settler(redis_url: str, connection: Redis) -> Settler:
    return Settler.connect(connection, ApiSettings(redis_url=redis_url))


def failed(process: subprocess.Popen[bytes], folder: Path) -> str:
    """What a command wrote to its standard error that has failed and left no picture and no JSON."""
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 22 and output == b""
    assert [path.name for path in folder.iterdir()] == ["launch"]
    return errors.decode()


def start(url: str, line: str, folder: Path) -> subprocess.Popen[bytes]:
    arguments = command(url, line, folder)
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("line", IMAGE_LINES)
def test_a_line_that_wants_an_image_fails_where_none_is_ready_in_time(
    redis_url: str, tmp_path: Path, line: str
) -> None:
    (folder := tmp_path / "here").mkdir()
    with api_process(tmp_path, redis_url, max_wait_s=1) as api:  # and no worker
        assert "504" in failed(start(api.url, line, folder), folder)


@pytest.mark.parametrize("end", ["failed", "canceled", "refused"])
def test_the_first_fails_where_its_job_does(redis_url: str, settler: Settler, tmp_path: Path, end: str) -> None:
    (folder := tmp_path / "here").mkdir()
    with api_process(tmp_path, redis_url, max_image_bytes=1000 if end == "refused" else 10**7) as api:
        running = start(api.url, LINES[0], folder)
        if end != "refused":
            while not (ids := settler.queue.rq.get_job_ids()) and running.poll() is None:
                time.sleep(0.02)
            (job_id,) = map(str, ids)
            if end == "canceled":
                httpx.delete(f"{api.url}/v1/jobs/{job_id}").raise_for_status()
            else:
                settler.start(job_id)
                settler.fail(job_id, JobProblem(code="out_of_memory", message="It does not fit."))
        status = {"failed": "500", "canceled": "409", "refused": "413"}[end]
        assert status in failed(running, folder)
