"""Tests that are killed leave no servers behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = """
import sys, time
from pathlib import Path
from tests.redis_server import RedisServer
with RedisServer(Path(sys.argv[1])) as server:
    print(server.process.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
def test_a_redis_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = subprocess.Popen([sys.executable, "-c", START, tmp_path], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    os.kill(pid, 0)
    starter.kill()
    starter.communicate()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)
