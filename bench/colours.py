"""Colour words on the development photos: how often the hole takes the hue that the prompt names.

`python -m bench.colours` paints every hole once for each word, with the preset `colour`, and prints the share of
photos where the hole's mean colour has the hue asked for, beside the share where it has that hue without a prompt, and
the median time of the worker's part of a request, from the uploaded bytes to the PNG.
"""

from __future__ import annotations

import argparse
import colorsys
import statistics
import time

import numpy as np
import torch

from bench.quality import Fill, MaskedPhoto, add_photo_options, load_cases
from bench.record import Record, keep_option
from bench.worker_fill import worker_fill

WORDS = {"red": 0.0, "bright green": 1 / 3, "green": 1 / 3, "blue": 2 / 3, "dark blue": 2 / 3, "yellow": 1 / 6}
"""Prompt -> its hue in turns of the colour circle."""
NEAR = 1 / 12
"""A twelfth of a turn, 30 degrees: half the way from one of six hues to the next."""
LEAST_CHROMA = 0.08
"""Below it a colour is a grey (`recipe/words.py`) and its hue means nothing."""


def has_hue(case: MaskedPhoto, result: np.ndarray, hue: float) -> bool:
    """Whether the mean colour of the hole in `result`, (H, W, 3), is of that hue."""
    red, green, blue = result[case.hole].mean(0) / 255
    away = abs(colorsys.rgb_to_hls(red, green, blue)[0] - hue)
    chroma = max(red, green, blue) - min(red, green, blue)
    return bool(min(away, 1 - away) <= NEAR and chroma >= LEAST_CHROMA)


def share(cases: list[MaskedPhoto], fill: Fill, hue: float) -> float:
    return painted(cases, fill, hue)[0]


def painted(cases: list[MaskedPhoto], fill: Fill, hue: float) -> tuple[float, float]:
    """The share of the photos whose hole has the hue, and the median time of a photo in ms."""
    hits, spent = [], []
    for case in cases:
        began = time.perf_counter()
        result = fill(case.image, case.hole)
        spent.append(1000 * (time.perf_counter() - began))
        hits.append(has_hue(case, result, hue))
    return float(np.mean(hits)), statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.colours", description=__doc__, parents=[keep_option()])
    add_photo_options(parser)
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--guidance", type=float, help="instead of the preset's")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    record = Record(["word", "asked for", "without a prompt", "ms"])
    cases = load_cases(chosen.eval, chosen.mask, chosen.size)
    given = {"num_inference_steps": chosen.steps, "guidance_scale": chosen.guidance}
    asked = {name: value for name, value in given.items() if value is not None}
    plain = worker_fill(preset="colour", **asked)
    unprompted = [plain(case.image, case.hole) for case in cases]
    record.notes = [
        f"{len(cases)} photos, {chosen.mask}, {chosen.size} px, preset colour{f', {asked}' if asked else ''}."
    ]
    for word, hue in WORDS.items():
        without = float(np.mean([has_hue(*pair, hue) for pair in zip(cases, unprompted, strict=True)]))
        named, ms = painted(cases, worker_fill(prompt=word, preset="colour", **asked), hue)
        record.add(word, f"{100 * named:.0f} %", f"{100 * without:.0f} %", f"{ms:.0f}")
    record.finish(chosen.keep)


if __name__ == "__main__":
    main()
