"""``infill edit`` and its siblings, and the Python client, against a running service."""

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image

from infill_client import AsyncClient, Client, JobEnded, Problem, Result
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack

Places = np.ndarray[Any, np.dtype[np.bool_]]
"""(H, W)."""


def infill(stack: Stack, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    service = [] if arguments[0] in ("completion",) or arguments[1:2] == ("check",) else ["--url", stack.urls[0]]
    command = [sys.executable, "-m", "launch", *arguments, *service]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def changed(result: bytes | Path) -> Places:
    """Which pixels of the demo photo the result has changed, (H, W)."""
    file = io.BytesIO(result) if isinstance(result, bytes) else result
    with Image.open(file) as after, Image.open(PHOTO) as before:
        differs = np.asarray(after.convert("RGB")) != np.asarray(before.convert("RGB"))
    return np.asarray(differs.any(axis=2))


@pytest.fixture(scope="module")
def hole() -> Places:
    with Image.open(MASK) as mask:
        return np.asarray(mask.convert("L")) > 0


def assert_only_in(result: bytes | Path, hole: Places) -> None:
    found = changed(result)
    assert found.any() and not found[~hole].any()


def test_a_photo_is_repainted_into_a_file_with_its_times(stack: Stack, hole: Places, tmp_path: Path) -> None:
    done = infill(
        stack, "edit", str(PHOTO), "-m", str(MASK), "-o", "out.png", "--steps", "2", "--timings", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("out.png\n") and "denoise" in done.stdout
    assert_only_in(tmp_path / "out.png", hole)


def test_the_name_of_the_file_says_its_format(stack: Stack, tmp_path: Path) -> None:
    done = infill(
        stack, "edit", str(PHOTO), "-m", str(MASK), "-o", "out.JPG", "--steps", "1", "--set", "output_quality=80",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.JPG") as image:
        assert (image.format, image.size) == ("JPEG", (512, 512))


def test_several_photos_and_images_are_numbered_and_a_bad_one_is_named(
    stack: Stack, hole: Places, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(PHOTO.read_bytes())
    (tmp_path / "b.png").write_bytes(b"no picture")
    done = infill(
        stack, "edit", "a.png", "b.png", "-m", str(MASK), "-n", "2", "--set", "num_inference_steps=1", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    job = json.loads(done.stdout)
    assert done.returncode == 1 and "infill: b.png: image:" in done.stderr
    assert job["files"] == ["a-infill-0.png", "a-infill-1.png"] and job["mask"]["changed_outside_mask"] == 0
    for name in job["files"]:
        assert_only_in(tmp_path / name, hole)


def test_a_photo_is_extended_and_stands_in_the_result_as_it_was(stack: Stack, tmp_path: Path) -> None:
    done = infill(stack, "edit", str(PHOTO), "--extend", "0,0,10%,20", "-o", "out.png", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    with Image.open(tmp_path / "out.png") as after, Image.open(PHOTO) as before:
        photo, result = np.asarray(before.convert("RGB")), np.asarray(after)
        told = json.loads(after.info["infill"])
    height, width = photo.shape[:2]
    right = -(-width // 10)
    assert job["extend"] == told["extend"]
    assert job["extend"] == {
        "left": 0, "top": 0, "right": right, "bottom": 20, "width": width + right, "height": height + 20
    }  # fmt: skip
    assert result.shape == (height + 20, width + right, 3)
    assert (result[:height, :width] == photo).all() and job["mask"]["changed_outside_mask"] == 0
    assert result[:height, width:].std() > 0
    with Client(stack.urls[0]) as client:
        header = client._http.get(f"{job['url']}/images/0").headers["Infill-Extend"]
        assert client.job(job["id"]).extend
    assert header == f"left=0; top=0; right={right}; bottom=20; width={width + right}; height={height + 20}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["edit", "missing.png"], "missing.png is not a file."),
        (["edit", str(PHOTO), "--extend", "1,2"], "extend: Write it as left,top,right,bottom"),
        (["edit", str(PHOTO), "-m", str(MASK), "--hires", "twice"], "hires: This field must be 'off' or 'tile'"),
        (["edit", str(PHOTO), "--aspect", "1:1", "-m", str(MASK)], "mask: task=extend repaints the new border"),
        (["edit", str(PHOTO), "--set", "x"], "--set x: write it as NAME=VALUE"),
        (["edit", str(PHOTO), "--box", "1,2"], "--box 1,2: write it as LEFT,TOP,RIGHT,BOTTOM"),
        (["edit", str(PHOTO), str(PHOTO), "-o", "x.png"], "several photos need a folder"),
        (["edit", str(PHOTO), "-o", "x.gif"], "--out x.gif: results are .png, .jpg, .jpeg, .webp, .avif."),
        (["edit", str(PHOTO), "-o", "x.png", "--format", "jpeg"], "--out x.png, --format jpeg: the file's name is"),
        (["edit", str(PHOTO), "-m", str(MASK), "--set", "nonsense=1"], "There is no field 'nonsense'"),
        (["jobs", "show", "nobody"], "job"),
    ],
)
def test_a_mistake_is_one_sentence(stack: Stack, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    done = infill(stack, *arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "" and sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_jobs_models_and_adapters_are_shown(stack: Stack, tmp_path: Path) -> None:
    with Client(stack.urls[0]) as client:
        job = client.submit(PHOTO, MASK, num_inference_steps=200, n=8)
    shown = json.loads(infill(stack, "jobs", "show", job.id, cwd=tmp_path).stdout)
    assert shown["id"] == job.id
    assert job.id in infill(stack, "jobs", "cancel", job.id, cwd=tmp_path).stdout
    assert "pocket (default)" in infill(stack, "models", "list", cwd=tmp_path).stdout
    assert infill(stack, "loras", "list", cwd=tmp_path).returncode == 0


def test_a_catalog_is_checked_and_a_shell_completes(stack: Stack, tmp_path: Path) -> None:
    assert "pocket" in infill(stack, "models", "check", cwd=tmp_path).stdout
    (tmp_path / "bad.toml").write_text("[models.a]\nfamily = 'nothing'\n")
    done = infill(stack, "models", "check", "bad.toml", cwd=tmp_path)
    assert done.returncode == 1 and "bad.toml cannot be used" in done.stderr
    assert "_infill" in infill(stack, "completion", "bash", cwd=tmp_path).stdout


def test_the_client_edits_follows_and_cancels(stack: Stack, hole: Places) -> None:
    with Client(stack.urls[0]) as client:
        result = client.edit(PHOTO.read_bytes(), io.BytesIO(MASK.read_bytes()), num_inference_steps=2, seed=5)
        assert_only_in(result.images[0], hole)
        assert result.job.seeds == [5] and result.job.mask.changed_outside_mask == 0
        job = client.submit(str(PHOTO), MASK, num_inference_steps=3)
        seen = [at.status for at in client.follow(job.id)]
        assert seen[-1] == "succeeded" and client.wait(job).ended
        job = client.submit(PHOTO, MASK, num_inference_steps=200, n=8)
        client.cancel(job.id)
        with pytest.raises(JobEnded, match="canceled"):
            client.result(client.wait(job))
        with pytest.raises(Problem) as caught:
            client.cancel(job.id if client.cancel(job.id).status != "canceled" else result.job.id)
        assert caught.value.code == "job_already_finished"
        assert client.models()[0]["name"] == "pocket" and client.loras() == []


def test_one_key_makes_one_job(stack: Stack) -> None:
    with Client(stack.urls[0]) as client:
        first, second = (
            client.submit(PHOTO, MASK, num_inference_steps=1, seed=1, idempotency_key="the-client") for _ in range(2)
        )
    assert first.id == second.id


def test_the_asynchronous_client_edits_several_at_once(stack: Stack, hole: Places) -> None:
    async def run() -> list[Result]:
        results = []
        async with AsyncClient(stack.urls[0]) as client, anyio.create_task_group() as group:

            async def one(seed: int) -> None:
                results.append(await client.edit(PHOTO, MASK, num_inference_steps=1, seed=seed))

            for seed in range(3):
                group.start_soon(one, seed)
        return results

    results = anyio.run(run)
    assert {result.job.seeds[0] for result in results} == {0, 1, 2}
    for result in results:
        assert_only_in(result.images[0], hole)


@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_the_python_of_the_pages_runs(stack: Stack, hole: Places, tmp_path: Path, page: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    program, env = code.replace("http://127.0.0.1:8000", stack.urls[0]), {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, check=True, timeout=120)
    (name,) = re.findall(r'save\("(.*?)"\)', code)
    assert_only_in(tmp_path / name, hole)


def test_the_command_of_the_page_runs(stack: Stack, hole: Places, tmp_path: Path) -> None:
    (line,) = re.findall(r"```sh\n(.*?)\n```", (ROOT / "docs" / "command-line.md").read_text(), re.DOTALL)
    (tmp_path / "launch").symlink_to(ROOT / "launch")
    assert infill(stack, *shlex.split(line)[1:], cwd=tmp_path).returncode == 0
    assert_only_in(tmp_path / "bench.png", hole)


def test_help_imports_nothing_that_takes_time() -> None:
    program = "import sys, launch.options as o; o.parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "pydantic", "httpx", "numpy", "fastapi"} & set(loaded.stdout.split())
