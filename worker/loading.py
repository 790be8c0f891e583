"""Turns catalog entries into loaded models on this worker's device."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from jobs.catalog import Catalog, ModelEntry
from jobs.errors import BadModel
from worker.families.base import Family
from worker.families.registry import FAMILIES
from worker.settings import WorkerSettings

EMBEDDED = Path(__file__).with_name("pocket") / "model"


def pick_device(settings: WorkerSettings) -> torch.device:
    if settings.device != "auto":
        return torch.device(settings.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(settings: WorkerSettings, device: torch.device) -> torch.dtype:
    if settings.dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype: torch.dtype = getattr(torch, settings.dtype)
    return dtype


def load_models(catalog: Catalog, settings: WorkerSettings) -> dict[str, Family]:
    """Load every model of the catalog. Raises BadModel naming the one that cannot be loaded."""
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = pick_device(settings)
    dtype = pick_dtype(settings, device)
    return {name: load_model(name, entry, dtype, device) for name, entry in catalog.models.items()}


def load_model(name: str, entry: ModelEntry, dtype: torch.dtype, device: torch.device) -> Family:
    folder = EMBEDDED if entry.source == "embedded" else Path(entry.source)
    if not folder.is_dir():
        raise BadModel(f"Model {name!r}: there is no folder {folder}.")
    kind = FAMILIES[entry.family]
    try:
        pipeline = read_folder(kind.pipeline_class, folder, dtype, kind.load_options)
        return kind(name, pipeline.to(device))
    except (OSError, ValueError, KeyError) as error:
        raise BadModel(f"Model {name!r} in {folder} cannot be loaded: {error}") from error


def read_folder(
    pipeline_class: type[DiffusionPipeline], folder: Path, dtype: torch.dtype, without: Mapping[str, Any]
) -> DiffusionPipeline:
    pipeline = pipeline_class.from_pretrained(folder, dtype=dtype, local_files_only=True, **without)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module) and all(weight.dim() < 5 for weight in part.parameters()):
            part.to(memory_format=torch.channels_last)  # convolutions then need no reordering of the activations
    return pipeline
