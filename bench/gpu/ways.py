"""Ways of running a network, beside each other: ``python -m bench.gpu.ways``.

As the engine runs it; with fused query, key and value projections; with its repeated blocks compiled, as
``INFILL_COMPILE`` has it; shallow, as a ``cache_interval`` has most of its calls; and on a GPU compiled as a whole into
CUDA graphs. Calls with the same inputs, in turns; the first call of each way, which compiles, is told apart, and the
outputs are compared. The models are those of ``bench.gpu``; nothing is downloaded.
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
from bench.machine import describe
from worker.families.deep_features import DeepFeatures

Call = Callable[[], Any]


class Shallow:
    """A network whose first call with inputs of a shape is a full one; the next ones use its deep features."""

    def __init__(self, network: Any) -> None:
        self.config, self.features = network.config, DeepFeatures(network)
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
    made = {"plain": network, "fused qkv": fused, "blocks compiled": blocks, "shallow": Shallow(copy.deepcopy(network))}
    if device.type == "cuda":
        made["cuda graphs"] = torch.compile(copy.deepcopy(network), mode="reduce-overhead")
    return made


def timed_ms(call: Call, device: torch.device) -> float:
    began = time.perf_counter()
    call()
    synchronize(device)
    return 1000 * (time.perf_counter() - began)


@torch.inference_mode()
def compare(calls: Mapping[str, Call], device: torch.device, turns: int) -> str:
    """Medians in ms, the plain one's time over each, the first call in s, the largest difference in the output."""
    first_s = {name: timed_ms(call, device) / 1000 for name, call in calls.items()}
    plain = calls["plain"]()[0].float().clone()
    apart = {name: float((call()[0].float() - plain).abs().max() / plain.abs().max()) for name, call in calls.items()}
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            spent[name].append(timed_ms(call, device))
    ms = {name: statistics.median(times) for name, times in spent.items()}
    shown = [
        f"{name} {ms[name]:.1f} ms {ms['plain'] / ms[name]:.2f}x (first {first_s[name]:.1f} s, {apart[name]:.0e})"
        for name in calls
    ]
    return " | ".join(shown)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.ways", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=list(OPENERS))
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--turns", type=int, default=15)
    chosen = parser.parse_args()
    quiet()
    gpu = torch.cuda.is_available()
    device, dtype = (torch.device("cuda"), torch.bfloat16) if gpu else (torch.device("cpu"), torch.float32)
    print(describe())
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
                print(f"{name} {size_px} px, {rows} rows: {compare(calls, device, chosen.turns)}", flush=True)


if __name__ == "__main__":
    main()
