"""The memory bench: its arithmetic, and the command itself in small."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.memory import Peak, Upload, memory, row
from bench.record import read

ROOT = Path(__file__).parents[2]


def test_bytes_a_pixel_are_what_is_taken_beside_the_upload() -> None:
    upload = Upload("photo", bytes(2_000_000), bytes(1_000_000), 10_000_000)
    cells = [Peak(43_000_000, Counter({"202": 1})), Peak(90_000_000, Counter({"202": 3, "store_full": 1}))]
    assert row(upload, cells) == ["photo", "3.0", "10.0", "4.0", "43 MB (1 x 202)", "90 MB (3 x 202, 1 x store_full)"]


def test_memory_is_of_a_process_and_its_children() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "x = bytes(1) * 50_000_000; print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    both, alone = memory(os.getpid(), "VmRSS"), memory(child.pid, "VmRSS")
    child.communicate(b"\n")
    assert alone > 50_000_000 and both > alone


def test_the_command_prints_a_row_for_each_upload_and_keeps_them(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "bench.memory",
        "--at-once",
        "1",
        "--uploads",
        "flat",
        "--keep",
        str(tmp_path / "m"),
    ]
    environment = os.environ | {"INFILL_VAR_DIR": str(tmp_path)}
    printed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.search(
        r"^\| flat WebP as photo and mask \| 0\.0 \| 39\.6 \| \d+\.\d \| \d+ MB \(1 x \w+\) \|$", printed, re.M
    )
    record = read(tmp_path / "m.json")
    assert record.markdown() == printed.strip()
    assert record.command.endswith("python -m bench.memory --at-once 1 --uploads flat")
