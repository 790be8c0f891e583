"""A worker process whose device dies: ``python -m tests.worker.dying_worker FLAG``.

Once the file ``FLAG`` is there, every call of the network raises what CUDA does after an illegal access.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch.nn.modules.module import register_module_forward_pre_hook

from jobs.environment import begin
from worker.main import main
from worker.settings import WorkerSettings

ILLEGAL = "CUDA error: an illegal memory access was encountered"


def die_with(flag: Path) -> None:
    def look(module: torch.nn.Module, _: Any) -> None:
        if isinstance(module, UNet2DConditionModel) and flag.exists():
            raise torch.AcceleratorError(ILLEGAL)

    register_module_forward_pre_hook(look)


if __name__ == "__main__":
    die_with(Path(sys.argv[1]))
    sys.exit(main(begin(WorkerSettings)))
