"""Reads the catalog's models into main memory, and brings them to this worker's device."""

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from jobs.catalog import ModelEntry
from jobs.errors import BadModel
from jobs.segmenters import SegmenterEntry
from worker.denoise.device import is_out_of_memory, release_cache
from worker.families.base import Family
from worker.families.clipseg import ClipSeg, read_clipseg
from worker.families.feedforward import FeedForward
from worker.families.registry import FAMILIES
from worker.models.models import DeviceFull, ReadModel
from worker.models.sources import read_pipeline
from worker.models.torchscript import read_network
from worker.settings import WorkerSettings

log = logging.getLogger("worker.models.loading")

Offload = Literal["none", "model", "sequential"]


def pick_device(settings: WorkerSettings) -> torch.device:
    if settings.device != "auto":
        return torch.device(settings.device)
    build, node = ("CUDA", "/dev/nvidiactl") if torch.version.cuda else ("ROCm", "/dev/kfd")
    built = bool(torch.version.cuda or torch.version.hip)
    return automatic_device(build if built else None, torch.cuda.is_available(), Path(node).exists())


def automatic_device(build: str | None, usable: bool, present: bool) -> torch.device:
    """The GPU, or the CPU where there is none.

    Args:
        build: what torch was built for, beside the CPU.
        usable: whether torch can use a GPU.
        present: whether the machine has one.

    Raises:
        BadModel: the machine has one that torch cannot use. On the CPU it would be slow without a word.
    """
    if build and present and not usable:
        raise BadModel(
            f"INFILL_DEVICE=auto: this machine has a GPU that torch ({build}) cannot use; its driver is missing or too "
            "old. Mend it, or set INFILL_DEVICE=cpu."
        )
    if build and not usable:
        log.warning("torch is built for %s and finds no GPU: the models run on the CPU", build)
    return torch.device("cuda" if usable else "cpu")


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """CUDA's compute capability; None of other devices."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" and torch.cuda.is_available() else None


def half_dtype(capability: tuple[int, int] | None) -> torch.dtype:
    """bfloat16; float16 on a card before 8.0, which emulates bfloat16 slowly."""
    return torch.float16 if capability and capability < (8, 0) else torch.bfloat16


def pick_dtype(entry: ModelEntry, settings: WorkerSettings, device: torch.device) -> torch.dtype:
    """The catalog's word, else the setting's, else what suits the device."""
    name = entry.dtype if entry.dtype != "auto" else settings.dtype
    if name == "auto":
        return torch.float32 if device.type == "cpu" else half_dtype(capability_of(device))
    dtype: torch.dtype = getattr(torch, name)
    return dtype


class Loader:
    """Reads models by the worker's settings. Raises BadModel for settings that the device cannot do."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.device = pick_device(settings)
        if self.device.type == "cuda" and self.device.index is not None:
            torch.cuda.set_device(self.device)  # or calls that name none would take up memory on the first one
        if settings.offload != "none" and self.device.type == "cpu":
            raise BadModel(
                f"INFILL_OFFLOAD={settings.offload} needs a GPU: on a CPU all weights lie in main memory already. "
                "INFILL_MODEL_BUDGET_BYTES bounds them."
            )
        for library in (diffusers, transformers):
            library.logging.set_verbosity_error()
            library.logging.disable_progress_bar()
        warnings.filterwarnings("ignore", "Should have t[ab]", module="torchsde")  # DPM++ SDE: rounding, no more

    def read(self, name: str, entry: ModelEntry | SegmenterEntry) -> ReadModel:
        """Read a model into main memory. Raises BadModel, whatever is wrong with its files."""
        if isinstance(entry, SegmenterEntry):
            return LoadedSegmenter(read_clipseg(name, entry), self.device)
        if entry.family == "feedforward":
            return LoadedNetwork(name, entry, read_network(name, entry), self.device)
        return self.read_pipeline(name, entry)

    def read_pipeline(self, name: str, entry: ModelEntry) -> "LoadedFiles":
        """The same, of a family with a pipeline of diffusers."""
        kind = FAMILIES[entry.family]
        dtype = pick_dtype(entry, self.settings, self.device)
        try:
            pipeline = read_pipeline(kind.pipeline_class, entry, dtype, kind.load_options)
            self._set_up_vae(pipeline.vae)
        except Exception as error:
            raise BadModel(f"Model {name!r} ({entry.source}): {error}") from error
        for part in networks(pipeline):
            if all(weight.dim() < 5 for weight in part.parameters()):
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # convolutions need no reordering
        settings = self.settings
        return LoadedFiles(name, entry, pipeline, self.device, settings.offload, settings.encoding_budget_bytes)

    def _set_up_vae(self, vae: diffusers.AutoencoderKL) -> None:
        """Flags of the VAE itself, which its ``encode`` and ``decode`` read: they act also without a pipeline."""
        if self.settings.vae_tiling:
            vae.enable_tiling()
        if self.settings.vae_slicing:
            vae.enable_slicing()

    def load(self, name: str, entry: ModelEntry) -> Family:
        """Read a model and bring it to the device. Raises BadModel, DeviceFull."""
        return cast(Family, self.read(name, entry).place())


@dataclass(frozen=True)
class LoadedFiles:
    """A model in main memory: ``worker.models.models.ReadModel``."""

    name: str
    entry: ModelEntry
    pipeline: DiffusionPipeline
    device: torch.device
    offload: Offload
    encoding_budget_bytes: int

    @property
    def size_bytes(self) -> int:
        tensors = {id(t): t for part in networks(self.pipeline) for t in (*part.parameters(), *part.buffers())}
        return sum(tensor.nbytes for tensor in tensors.values())

    def place(self) -> Family:
        with _making_room():
            bring(self.pipeline, self.device, self.offload)
            family = FAMILIES[self.entry.family](self.name, self.pipeline, self.encoding_budget_bytes)
        if unfit := self.entry.unfit_scheduler(family.schedulers):
            raise BadModel(f"Model {self.name!r}: {unfit}")
        return family


@dataclass(frozen=True)
class LoadedNetwork:
    """A network that paints in one call, in main memory: ``worker.models.models.ReadModel``. Nothing is offloaded."""

    name: str
    entry: ModelEntry
    network: torch.jit.ScriptModule
    device: torch.device

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.network.parameters(), *self.network.buffers()))

    def place(self) -> Family:
        assert self.entry.convention is not None  # the catalog refuses an entry without one
        with _making_room():
            return FeedForward(self.name, self.network.to(self.device), self.entry.convention, self.entry.size_px)


@dataclass(frozen=True)
class LoadedSegmenter:
    """A segmenter in main memory: ``worker.models.models.ReadModel``. Nothing is offloaded."""

    segmenter: ClipSeg
    device: torch.device

    @property
    def size_bytes(self) -> int:
        network = self.segmenter.network
        return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))

    def place(self) -> ClipSeg:
        with _making_room():
            self.segmenter.network.to(self.device)
            return self.segmenter


@contextmanager
def _making_room() -> Iterator[None]:
    """Free what has been evicted first. Raises DeviceFull where the device is full all the same."""
    gc.collect()
    release_cache()
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceFull(str(error)) from error


def networks(pipeline: DiffusionPipeline) -> list[torch.nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def bring(pipeline: DiffusionPipeline, device: torch.device, offload: Offload) -> None:
    """Move a pipeline's networks to the device, or have them come and go by accelerate's hooks.

    The hooks sit on ``forward`` and on the VAE's ``encode`` and ``decode``: they act without the pipeline's own loop.
    """
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
