"""Cached features on the development photos: what they save, and how far the pictures go from the exact ones.

`python -m bench.caching` paints every hole by the pocket model, exactly and with each `cache_interval` in turns, and
prints the median time of the worker's part of a request (from the uploaded bytes to the PNG), how many times faster
that is, and the distance in the hole from the exact picture. Beside it: as many full steps as the interval leaves.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from bench.quality import add_photo_options, load_cases, psnr
from bench.record import Record, keep_option
from bench.worker_fill import worker_fill


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.caching", description=__doc__, parents=[keep_option()])
    add_photo_options(parser)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--prompt", default="blue")
    parser.add_argument("--intervals", type=int, nargs="+", default=[2, 3, 5])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    record = Record(["", "ms", "times as fast", "dB from the exact picture, in the hole"])
    cases = load_cases(chosen.eval, chosen.mask, chosen.size)
    asked = {"prompt": chosen.prompt, "guidance_scale": chosen.guidance}
    ways = {"exact": {"num_inference_steps": chosen.steps}}
    for interval in chosen.intervals:
        ways[f"cache_interval {interval}"] = {"num_inference_steps": chosen.steps, "cache_interval": interval}
        ways[f"{-(-chosen.steps // interval)} steps"] = {"num_inference_steps": -(-chosen.steps // interval)}
    fills = {name: worker_fill(**asked, **fields) for name, fields in ways.items()}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    nearness: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, np.ndarray] = {}
    for case in cases:
        for name, fill in fills.items():
            began = time.perf_counter()
            result = fill(case.image, case.hole)
            spent[name].append(1000 * (time.perf_counter() - began))
            results[name] = result
            nearness[name].append(psnr(case.hole, result, results["exact"]))
    record.notes = [
        f"{len(cases)} photos, {chosen.mask}, {chosen.size} px, {chosen.steps} steps, guidance {chosen.guidance}."
    ]
    base = statistics.median(spent["exact"])
    for name in ways:
        ms, near = statistics.median(spent[name]), statistics.median(nearness[name])
        record.add(name, f"{ms:.0f}", f"{base / ms:.2f}x", "" if name == "exact" else f"{near:.1f}")
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
