"""Compiled blocks, by torch's own compiler: in processes of their own, since the compiler's stance is a process's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import BadModel
from tests.programs import program
from worker.compiling import Compiler
from worker.settings import WorkerSettings

SERVED = """
import torch
from torch._dynamo.utils import counters
from tests.worker import tiny
from tests.worker.test_parity import canvas, difference, parameters, run_alone
from tests.worker.test_profile import entry
from tests.programs import program
from worker.compiling import Compiler
from worker.settings import WorkerSettings

torch.set_num_threads(1)
wishes = [parameters("ddim", 1.0, seed=1), parameters("ddim", 1.0, seed=2, guidance=1.0), parameters("heun", 1.0, n=4)]
plain = [run_alone(tiny.model("sd", "concat"), wanted, canvas()) for wanted in wishes]
model = tiny.model("sd", "concat")
compiler = Compiler(WorkerSettings(), lambda family, entry: [])
compiler(model, entry(64, 64))
warm = counters["stats"]["unique_graphs"]
compiler.serve()
compiled = [run_alone(model, wanted, canvas()) for wanted in wishes]
pairs = [pair for states in zip(compiled, plain) for pair in zip(*states)]
print(warm > 0, counters["stats"]["unique_graphs"] - warm, max(difference(a.latents, b.latents) for a, b in pairs))
late = tiny.model("sd", "recompose")
compiler(late, entry(64, 64))
run_alone(late, wishes[0], canvas())
print(counters["stats"]["unique_graphs"] - warm)
"""


def test_a_worker_compiles_at_its_start_paints_the_same_and_never_compiles_again(tmp_path: Path) -> None:
    program("g++")  # torch compiles for a CPU with it
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    shown = subprocess.run(
        [sys.executable, "-c", SERVED], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    first, second = shown.stdout.strip().splitlines()[-2:]
    was_compiled, later, apart = first.split()
    assert (was_compiled, later, second) == ("True", "0", "0")
    assert float(apart) < 1e-4


def test_compiled_blocks_and_adapters_are_not_served_together() -> None:
    with pytest.raises(BadModel, match="INFILL_COMPILE does not go with INFILL_LORA_DIR"):
        Compiler(WorkerSettings(lora_dir="/adapters"), lambda *_: [])
