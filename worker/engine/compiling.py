"""Networks and VAE decoders that are compiled at a worker's start (``INFILL_COMPILE``), and never while it serves.

A bucket is a canvas of a model's native or largest size, square, with 1, 2, 4, ... rows. For each, ``torch.compile``
makes one graph of the whole network; a pass between two numbers is padded with copies of its first row. A VAE's decoder
has one graph a size, for one image. All other calls run eagerly. torch keeps the compiled code on disk, in
``TORCHINDUCTOR_CACHE_DIR``, for the next start.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from jobs.catalog import ModelEntry
from jobs.errors import BadModel
from jobs.speed import Speed
from worker.denoise.device import is_out_of_memory, raise_if_lost, release_cache
from worker.denoise.state import DenoiseState, State
from worker.engine.profile import any_state, flat, run_pass_s
from worker.families.base import Family
from worker.families.compiled_calls import grid_of, shapes_of
from worker.families.latent_diffusion import LatentDiffusion
from worker.settings import WorkerSettings

log = logging.getLogger("worker.engine.compiling")

MAX_ROWS = 32
"""Rows of the largest call that is compiled."""

GRAPHS = 1024
"""Graphs of one function that torch may make: all models of a family share it, with two sizes of six calls each."""

SERVING = "eager_on_recompile"
"""torch's stance while jobs run: what was compiled is used, the rest runs eagerly and is not compiled."""

PROVING = "fail_on_recompile"
"""torch's stance for the second call of a bucket: one that would not use the graph of the first fails."""

Measure = Callable[[Family, ModelEntry], Sequence[Speed]]
Backend = str | Callable[..., Any]


class Compiler:
    """Compiles each model before it is measured, until the worker serves.

    Raises BadModel where adapters are served too: peft replaces layers, so compiled calls no longer match, and the
    same request would have other pixels before and after.
    """

    def __init__(self, settings: WorkerSettings, measure: Measure, backend: Backend = "inductor") -> None:
        if settings.lora_dir:
            raise BadModel("INFILL_COMPILE does not go with INFILL_LORA_DIR: leave one of them out.")
        self.measure = measure
        self.max_rows = min(MAX_ROWS, 2 * settings.max_rows)  # with guidance an image is two rows of the network
        self.backend = backend
        self.serving = False

    def __call__(self, family: Family, entry: ModelEntry) -> Sequence[Speed]:
        if not self.serving:
            self._compile(family, entry)
        with torch.compiler.set_stance(SERVING):  # as it will be served, also where it could not be compiled
            return self.measure(family, entry)

    def serve(self) -> None:
        """From now on nothing is compiled: a new shape would hold up the running batch for minutes."""
        self.serving = True
        torch.compiler.set_stance(SERVING)

    def _compile(self, family: Family, entry: ModelEntry) -> None:
        """Compile the network, and the decoder unless it works tile by tile: the number of tiles is the picture's."""
        if not isinstance(family, LatentDiffusion) or hasattr(family.network, "_hf_hook"):
            log.warning("model %s is not compiled: its weights are offloaded, or it does not denoise", family.name)
            return
        compiled = family.compiled
        with _as_one_part(family, "network", compiled.forget_network):
            self._compile_network(family, entry)
        if not family.vae.use_tiling:
            with _as_one_part(family, "decoder", compiled.forget_decoder):
                self._compile_decoder(family, entry)

    def _compile_network(self, family: LatentDiffusion, entry: ModelEntry) -> None:
        """Double the rows of a call until two doublings bring no gain, or the device has no room."""
        family.compiled.forward = self._compiled(family.forward)
        for state in _states(family, entry):
            family.compiled.conditioning = shapes_of(family.closed(state.text))
            began, pass_s = time.perf_counter(), dict[int, float]()
            compiled = family.compiled.rows[grid_of(state.latents)] = []
            while (rows := 2 ** len(pass_s)) <= self.max_rows and not (pass_s and flat(pass_s)):
                compiled.append(rows)
                if not _fits(partial(run_pass_s, family, state, rows)):
                    compiled.pop()
                    break
                with torch.compiler.set_stance(PROVING):
                    pass_s[rows] = run_pass_s(family, state, rows)
            _report(family, state, f"network compiled for {compiled} rows", began)

    def _compile_decoder(self, family: LatentDiffusion, entry: ModelEntry) -> None:
        """One image of each size."""
        family.compiled.decode = self._compiled(family.decode)
        for state in _states(family, entry):
            began, grid = time.perf_counter(), grid_of(state.latents)
            family.compiled.decoded.add(grid)
            if not _fits(partial(family.finish, [state])):
                family.compiled.decoded.remove(grid)
                return
            with torch.compiler.set_stance(PROVING):
                family.finish([state])
            _report(family, state, "decoder compiled", began)

    def _compiled(self, function: Callable[..., torch.Tensor]) -> Any:
        return torch.compile(function, fullgraph=True, dynamic=False, backend=self.backend)


def _states(family: LatentDiffusion, entry: ModelEntry) -> Iterator[DenoiseState]:
    """An image of the native and one of the largest size, as far as the device has room for them."""
    made: list[State] = []
    for size_px in dict.fromkeys((entry.size_px, entry.max_size_px)):
        if not _fits(lambda: made.append(any_state(family, entry, size_px, seed=size_px))):  # noqa: B023
            return
        state = made.pop()
        assert isinstance(state, DenoiseState)
        yield state


def _fits(call: Callable[[], object]) -> bool:
    """Whether the device has room for a call. Raises what else goes wrong in it."""
    try:
        call()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        release_cache()
        return False
    return True


@contextmanager
def _as_one_part(family: LatentDiffusion, part: str, forget: Callable[[], None]) -> Iterator[None]:
    """A part that cannot be compiled stays as it was: the machine has no compiler, or the part is not one graph."""
    try:
        with torch._dynamo.config.patch(recompile_limit=GRAPHS), warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Dynamo detected a call to a `functools.lru_cache`"
            )  # those are constants
            yield
    except Exception as error:
        raise_if_lost(error)
        forget()
        log.warning("model %s is not compiled, its %s: %s", family.name, part, error)


def _report(family: LatentDiffusion, state: DenoiseState, what: str, began: float) -> None:
    height, width = (side * family.latent_factor for side in grid_of(state.latents))
    log.info("model %s: %s at %d x %d px in %.1f s", family.name, what, width, height, time.perf_counter() - began)
