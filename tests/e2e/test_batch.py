"""``infill batch`` against a running service."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from redis import Redis

from tests.e2e.batch import Batch, Faults, run, services
from tests.e2e.pictures import noise_and_mask
from tests.e2e.stack import ROOT, Stack
from tests.factories import mask_with, png


def test_nothing_is_lost_or_made_twice_when_the_api_and_the_command_are_killed(tmp_path: Path) -> None:
    """Killed workers are for ``python -m tests.e2e.batch``: what one had just popped waits for a minute."""
    for stack, connection in services(tmp_path, workers=1):
        batch = Batch(tmp_path / "lines", stack.urls[0], lines=24, at_once=4)
        batch.write()
        come = run(batch, stack, Faults(workers=0, apis=1, commands=2))
        batch.check(connection)
        assert come == {"api": 1, "command": 2} and batch.runs == 3


def infill_batch(stack: Stack, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "launch", "batch", "in.jsonl", "--out", "out", "--url", stack.urls[0]]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_what_the_service_refuses_is_named_and_the_rest_is_made(stack: Stack, tmp_path: Path) -> None:
    photo, mask = noise_and_mask(1)
    for name, data in {"photo": photo, "mask": mask, "small": png(mask_with((slice(2), slice(2)), (8, 8)))}.items():
        (tmp_path / f"{name}.png").write_bytes(data)
    common = {"image": "photo.png", "mask": "mask.png", "num_inference_steps": 1}
    rows = [
        {"custom_id": "several", "n": 2} | common,
        {"custom_id": "lossy", "output_format": "jpeg"} | common,
        {"custom_id": "unknown", "model": "nobody"} | common,
        {"custom_id": "wrong", "model": "pocket"} | common | {"mask": "small.png"},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = infill_batch(stack, tmp_path)
    assert done.returncode == 1 and "2 made, 0 there already, 2 failed" in done.stdout
    assert "line 3 (unknown) failed: " in done.stderr and "line 4 (wrong) failed: mask: " in done.stderr
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"several-0.png", "several-1.png", "lossy.jpg", "results.jsonl"}
    with Redis.from_url(stack.env["INFILL_REDIS_URL"]) as connection:
        assert not connection.llen("rq:queue:inpaint")
    again = infill_batch(stack, tmp_path)
    assert again.returncode == 1 and "0 made, 2 there already, 2 failed" in again.stdout


def test_a_terminal_has_a_bar(stack: Stack, tmp_path: Path) -> None:
    batch = Batch(tmp_path / "lines", stack.urls[0], lines=2)
    batch.write()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "launch", "batch", "in.jsonl", "--out", "out", "--url", batch.url]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    subprocess.run(command, cwd=batch.folder, env=env, stdout=theirs, stderr=theirs, check=True, timeout=60)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    os.close(theirs)
    assert f"\r\x1b[K[{'#' * 30}]  2/2\r\n2 made, 0 there already, 0 failed" in said
