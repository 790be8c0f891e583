"""Jobs of tiny models on a device, phase by phase as the engine's thread runs them, and what is seen of it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import diffusers
import numpy as np
import torch
import transformers

from jobs.schema import InputName
from tests.factories import model_entry, png
from tests.worker import pretend_device, tiny
from tests.worker.device_log import Call, Log
from tests.worker.tasks import task_of
from worker.engine.engine import Engine
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.sd import StableDiffusion
from worker.models.loading import Offload, bring
from worker.models.sources import EMBEDDED
from worker.pixels.canvas import Pixels

STEPS = 4

Recorder = Callable[[str], AbstractContextManager[None]]
"""Called with the name of what is done inside."""


@dataclass(frozen=True)
class Scenario:
    """Jobs of one model, of which each joins one step after the one before. The masks of every second are soft."""

    family: str
    mode: str
    jobs: Sequence[dict[str, Any]]  # what each asks for
    dtype: torch.dtype = torch.float32
    offload: Offload = "none"
    preview: bool = False  # of the first job
    kept_bytes: int = 0  # of encodings


@dataclass(frozen=True)
class Observation:
    """Of a scenario on the pretend device."""

    calls: list[Call]
    given: set[tuple[str, str]]  # to the network: name of an argument, its dtype
    apart: int  # the largest difference of a pixel to the CPU's

    def calls_of(self, name: str) -> list[Call]:
        return [call for call in self.calls if call.name == name]

    @property
    def mismatches(self) -> list[str]:
        return sorted({mismatch for call in self.calls for mismatch in call.mismatches})


def pretending() -> ProcessPoolExecutor:
    """A process of its own with a pretend device."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_install)


def _install() -> None:
    torch.set_num_threads(1)
    logging.disable()
    for library in (diffusers, transformers):
        library.logging.disable_progress_bar()
    pretend_device.install()


def observe(scenario: Scenario) -> Observation:
    """Run a scenario on the CPU and on the pretend device; in a process that has one."""
    expected = run(scenario, torch.device("cpu"))
    log = pretend_device.log = Log()
    with pretend_device.PretendMode():
        pictures = run(scenario, torch.device(pretend_device.NAME, 0))
    apart = (np.abs(a.astype(int) - b.astype(int)).max() for a, b in zip(pictures, expected, strict=True))
    return Observation(log.calls, log.given, int(max(apart)))


def misuse() -> tuple[list[str], list[str]]:
    """Do what a device refuses, and what waits for it: the names of what was noticed, in the order it was done."""
    log = pretend_device.log = Log()
    with pretend_device.PretendMode():
        host, pinned = torch.arange(4.0), torch.arange(4.0).pin_memory()
        device = pinned.to(torch.device(pretend_device.NAME, 0), non_blocking=True)
        tried: dict[str, Callable[[], object]] = {
            "nothing": torch.cat([device * 2, device])[1:].sum,
            "host beside device": lambda: device + host,
            "numpy() of a device tensor": device.numpy,
            "item": device[0].item,
            "boolean index": lambda: device[device > 1],
            "host index": lambda: device[torch.tensor([1, 2])],
            "to the host": device.cpu,
            "pageable upload": lambda: host.to(device.device, non_blocking=True),
        }
        for name, what in tried.items():
            with log.call(name):
                what()
    mismatches = [call.name for call in log.calls if call.mismatches]
    return mismatches, [call.name for call in log.calls if call.waits]


def run(scenario: Scenario, device: torch.device) -> list[Pixels]:
    """Every job's canvases."""
    family = _model(scenario, device)
    engine = Engine({"tiny": family}, 16, device=device)
    recorded = _recorder(family, device)
    scheduler = next(iter(tiny.FAMILIES[scenario.family].schedulers))
    entry = model_entry(family=scenario.family, num_inference_steps=STEPS, scheduler=scheduler)
    tasks = [
        task_of(entry, crop="off", **{"seed": seed, "prompt": "cat" * seed, **asked})
        for seed, asked in enumerate(scenario.jobs)
    ]
    for seed, task in enumerate(tasks):
        canvas = task.open(_uploads(seed))
        with recorded("prepare"):
            engine.join(task.prepare(canvas, family))
        task.states[0].wants_estimate = scenario.preview and not seed
        with recorded("step"):
            engine.step()
    while engine.live:
        with recorded("step"):
            engine.step()
    pictures = []
    for task in tasks:
        if failure := task.failure():
            raise failure
        with recorded("finish"):
            pictures.append(task.finish())
    return pictures


def _recorder(family: LatentDiffusion, device: torch.device) -> Recorder:
    if device.type == "cuda":
        return _steps_that_may_not_wait
    if device.type != pretend_device.NAME:
        return lambda _: nullcontext()
    pretend_device.log.watch(family.network)
    return pretend_device.log.call


@contextmanager
def _steps_that_may_not_wait(name: str) -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error" if name == "step" else "default")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _model(scenario: Scenario, device: torch.device) -> LatentDiffusion:
    kind: type[LatentDiffusion] = StableDiffusion
    if scenario.mode == "fill":
        pipeline: Any = kind.pipeline_class.from_pretrained(EMBEDDED, local_files_only=True, **kind.load_options)
    else:
        known = tiny.FAMILIES[scenario.family]
        kind, pipeline = known.family, tiny.pipeline(scenario.family, scenario.mode, next(iter(known.schedulers)))
    pipeline.to(dtype=scenario.dtype)
    bring(pipeline, device, scenario.offload if device.type != "cpu" else "none")
    return kind("tiny", pipeline, scenario.kept_bytes)


def _uploads(seed: int) -> dict[InputName, bytes]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((64, 64), np.uint8)
    mask[16:40, 8:48] = rng.integers(1, 256, (24, 40)) if seed % 2 else 255
    return {"image": png(rng.integers(0, 256, (64, 64, 3), np.uint8)), "mask": png(mask)}
