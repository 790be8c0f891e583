"""Ways of running a network, beside each other: ``python -m bench.gpu.variants``.

As the engine runs it; with fused query, key and value projections; with its repeated blocks compiled; compiled as a
whole for each shape, as ``INFILL_COMPILE`` has it; shallow, as a ``cache_interval`` has most of its calls; and on a GPU
compiled as a whole into CUDA graphs. Calls with the same inputs, in turns; the first call of each, which compiles, is
timed apart, and the outputs are compared. The models are those of ``bench.gpu``; nothing is downloaded.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.gpu.models import OPENERS, Place, quiet
from bench.gpu.steps import Parts, network_call
from bench.gpu.timing import synchronize
from bench.record import Record, keep_option
from worker.families.deepcache import DeepCache

Call = Callable[[], Any]
FIGURES = ("ms", "times as fast", "first call s", "difference")


class Shallow:
    """A network whose first call with inputs of a shape is a full one; the next ones use its deep features."""

    def __init__(self, network: Any) -> None:
        self.config, self.features = network.config, DeepCache(network)
        self.deep: torch.Tensor | None = None

    def __call__(
        self, sample: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor, return_dict: bool, **added: Any
    ) -> tuple[torch.Tensor]:
        if self.deep is None or self.deep[:, 0].shape != sample[:, 0].shape:  # of other rows, or another size
            output, self.deep = self.features.full(sample, timesteps, text, **added)
            return (output,)
        return (self.features.shallow(self.deep, sample, timesteps, text, **added),)


def runners(network: Any, device: torch.device) -> dict[str, Any]:
    """The network and copies of it, each run in another way."""
    fused, blocks = copy.deepcopy(network), copy.deepcopy(network)
    fused.fuse_qkv_projections()
    blocks.compile_repeated_blocks(dynamic=True)
    whole = torch.compile(copy.deepcopy(network), fullgraph=True, dynamic=False)
    made = {"plain": network, "fused qkv": fused, "blocks compiled": blocks, "compiled": whole}
    made["shallow"] = Shallow(copy.deepcopy(network))
    if device.type == "cuda":
        made["cuda graphs"] = torch.compile(copy.deepcopy(network), mode="reduce-overhead")
    return made


def timed_ms(call: Call, device: torch.device) -> float:
    began = time.perf_counter()
    call()
    synchronize(device)
    return 1000 * (time.perf_counter() - began)


@torch.inference_mode()
def compare(calls: Mapping[str, Call], device: torch.device, turns: int) -> dict[str, list[str]]:
    """The cells of ``FIGURES`` for each variant; the difference is the largest one in the output."""
    first_s = {name: timed_ms(call, device) / 1000 for name, call in calls.items()}
    plain = calls["plain"]()[0].float().clone()
    apart = {name: float((call()[0].float() - plain).abs().max() / plain.abs().max()) for name, call in calls.items()}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            spent[name].append(timed_ms(call, device))
    ms = {name: statistics.median(times) for name, times in spent.items()}
    return {
        name: [f"{ms[name]:.1f}", f"{ms['plain'] / ms[name]:.2f}x", f"{first_s[name]:.1f}", f"{apart[name]:.0e}"]
        for name in calls
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.variants", description=__doc__, parents=[keep_option()])
    parser.add_argument("--models", nargs="+", choices=list(OPENERS))
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--turns", type=int, default=15)
    chosen = parser.parse_args()
    quiet()
    gpu = torch.cuda.is_available()
    device, dtype = (torch.device("cuda"), torch.bfloat16) if gpu else (torch.device("cpu"), torch.float32)
    record = Record(["model", "px", "rows", "variant", *FIGURES], notes=[f"{chosen.turns} turns."])
    for name in chosen.models or (["sd15", "sdxl"] if gpu else ["pocket"]):
        with tempfile.TemporaryDirectory(prefix="bench-ways-") as folder:
            pipeline, served = OPENERS[name](Place(device, dtype, Path(folder)))
        network = pipeline.unet.to(memory_format=torch.channels_last)
        parts = Parts(network, pipeline.vae, pipeline.vae_scale_factor)
        sides = {way: replace(parts, unet=other) for way, other in runners(network, device).items()}
        for size_px in chosen.sizes or [served.size_px]:
            for rows in chosen.rows:
                calls = {}
                for way, side in sides.items():
                    torch.manual_seed(0)  # the same inputs
                    calls[way] = network_call(side, "step", size_px, rows, device, dtype)
                for way, figures in compare(calls, device, chosen.turns).items():
                    record.add(name, str(size_px), str(rows), way, *figures)
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
