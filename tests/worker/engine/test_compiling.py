"""Compiled blocks, by torch's own compiler: in processes of their own, since the compiler's stance is a process's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import BadModel
from tests.programs import program
from worker.engine.compiling import Compiler
from worker.settings import WorkerSettings

SERVED = """
import torch
from torch._dynamo.utils import counters
from tests.worker import tiny
from tests.worker.runs import canvas
from tests.worker.runs import difference
from tests.worker.runs import parameters
from tests.worker.runs import run_alone
from tests.worker.slow_device import entry
from tests.programs import program
from worker.engine.compiling import Compiler
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


NO_COMPILER = """
import torch
from functools import partial
from tests.worker import tiny
from tests.worker.runs import canvas
from tests.worker.runs import parameters
from tests.worker.runs import run_alone
from tests.worker.slow_device import entry
from worker.engine.compiling import Compiler
from worker.engine.profile import profile
from worker.settings import WorkerSettings

torch.set_num_threads(1)
model = tiny.model("sd", "concat")
compiler = Compiler(WorkerSettings(), partial(profile, max_rows=2))
speeds = compiler(model, entry(64, 64))
compiler.serve()
print(len(speeds), run_alone(model, parameters("ddim", 1.0), canvas())[0].error)
"""


def test_a_model_that_cannot_be_compiled_is_measured_and_served_all_the_same(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "CXX": "/no/compiler",
    }
    shown = subprocess.run(
        [sys.executable, "-c", NO_COMPILER], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert "is not compiled" in shown.stderr
    assert shown.stdout.split() == ["1", "None"]


def test_compiled_blocks_and_adapters_are_not_served_together() -> None:
    with pytest.raises(BadModel, match="INFILL_COMPILE does not go with INFILL_LORA_DIR"):
        Compiler(WorkerSettings(lora_dir="/adapters"), lambda *_: [])
