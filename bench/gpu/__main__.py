"""How near the engine comes to the machine: ``python -m bench.gpu --out DIR``, ten minutes on a machine with one GPU.

Measures the matrix rate, then the networks of Stable Diffusion 1.5 and XL for inpainting (random weights, made on the
device) by size and rows, then this engine (a), FastAPI with diffusers' pipeline and a lock (b) and the same with
LitServe's batching (c) under closed loops and Poisson arrivals, in turns, their pictures compared. On a machine without
a GPU, and with --small, the same with the pocket model. Writes gpu.json after every section, gpu.md, and gpu.png. With
--keep NAME its tables are NAME-rates, NAME-network, NAME-pictures, and NAME- with each model that was served.
"""

import time

BEGAN = time.monotonic()  # before the imports: they are part of the ten minutes

import argparse  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from bench.record import keep_option  # noqa: E402

CHECKOUT = Path(__file__).resolve().parents[2]


def main() -> int:
    chosen = _arguments()
    _prepare_environment()
    from bench.gpu.report import keep
    from bench.gpu.run import FULL, SMALL, run

    small = chosen.small or not _has_gpu()
    scale = (SMALL if small else FULL).chosen(chosen)
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        os.environ["INFILL_VAR_DIR"] = folder  # the service's Redis data and logs
        results = run(scale, chosen.out, Path(folder), 60 * chosen.minutes, BEGAN)
    if chosen.keep:
        keep(results, chosen.keep)
    return 1 if any(left.failed for left in results.left_out) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__, parents=[keep_option()])
    parser.add_argument("--out", type=Path, default=Path("var/gpu"), help="folder for gpu.json, gpu.md and gpu.png")
    parser.add_argument("--minutes", type=float, default=9.5, help="what does not fit is left out, and said so")
    parser.add_argument("--small", action="store_true", help="the pocket model; so without a GPU anyway")
    parser.add_argument("--models", nargs="+", choices=["sd15", "sdxl", "pocket"], help="default: sd15 sdxl, or pocket")
    parser.add_argument(
        "--dtype", choices=["bfloat16", "float16", "float32"], help="default: bfloat16, on a CPU float32"
    )
    parser.add_argument("--sizes", type=int, nargs="+", help="sides of the pictures in px")
    parser.add_argument("--rows", type=int, nargs="+", help="samples in a network call")
    parser.add_argument("--clients", type=int, nargs="+", help="closed loops of so many callers")
    parser.add_argument("--sides", help="letters of the servers, from abc; '' for none")
    parser.add_argument("--steps", type=int, help="denoising steps of an image")
    return parser.parse_args()


def _prepare_environment() -> None:
    """For the servers, too, which read it from their environment."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("INFILL_MAX_WAIT_S", "600")
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *([known] if known else [])])


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
