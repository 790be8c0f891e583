"""Networks whose repeated blocks are compiled at a worker's start (``INFILL_COMPILE``), and never while it serves.

diffusers names the blocks (``compile_repeated_blocks``); a shape that was not compiled runs eagerly. torch keeps the
compiled code on disk, in ``TORCHINDUCTOR_CACHE_DIR``, for the next start.
"""

import logging
import time
from collections.abc import Callable, Sequence

import torch

from jobs.catalog import ModelEntry
from jobs.errors import BadModel
from jobs.speed import Speed
from worker.denoise.device import raise_if_lost
from worker.engine.profile import any_state
from worker.families.base import Family
from worker.settings import WorkerSettings

log = logging.getLogger("worker.engine.compiling")

ROWS = (1, 2, 3)
"""Rows of the warm-up passes. torch compiles one row separately, and all larger numbers together."""

SERVING = "eager_on_recompile"
"""torch's stance while jobs run: what was compiled is used, the rest runs eagerly and is not compiled."""

Measure = Callable[[Family, ModelEntry], Sequence[Speed]]


class Compiler:
    """Compiles each model before it is measured, until the worker serves.

    Raises BadModel where adapters are served too: peft replaces layers, so compiled blocks no longer match, and the
    same request would have other pixels before and after.
    """

    def __init__(self, settings: WorkerSettings, measure: Measure) -> None:
        if settings.lora_dir:
            raise BadModel("INFILL_COMPILE does not go with INFILL_LORA_DIR: leave one of them out.")
        self.measure = measure
        self.serving = False

    def __call__(self, family: Family, entry: ModelEntry) -> Sequence[Speed]:
        if not self.serving:
            _compile(family, entry)
        with torch.compiler.set_stance(SERVING):  # as it will be served, also where it could not be compiled
            return self.measure(family, entry)

    def serve(self) -> None:
        """From now on nothing is compiled: a new shape would hold up the running batch for seconds."""
        self.serving = True
        torch.compiler.set_stance(SERVING)


def _compile(family: Family, entry: ModelEntry) -> None:
    """Compile the blocks of a model by running them at its native and at its largest size."""
    began = time.perf_counter()
    try:
        family.network.compile_repeated_blocks(dynamic=True)
        for size_px in dict.fromkeys((entry.size_px, entry.max_size_px)):
            state = any_state(family, entry, size_px, seed=size_px)
            for rows in ROWS:
                family.predict([state] * rows)
    except Exception as error:  # no compiler on the machine, or a network without repeated blocks
        raise_if_lost(error)
        log.warning("model %s is not compiled: %s", family.name, error)
        return
    log.info("model %s: blocks compiled in %.1f s", family.name, time.perf_counter() - began)
