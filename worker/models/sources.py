"""Where a model's files come from: the project itself, a diffusers folder, a single file, or the hub."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from jobs.catalog import ModelEntry
from jobs.errors import BadModel
from worker.models.model_folders import check_folder, check_weights, lacks_weights, read_variants, reason_of
from worker.models.prediction import changed_scheduler
from worker.models.single_files import read_file

EMBEDDED = Path(__file__).parents[1] / "pocket" / "model"


def read_pipeline(
    pipeline_class: type[DiffusionPipeline], entry: ModelEntry, dtype: torch.dtype, options: dict[str, Any]
) -> DiffusionPipeline:
    """Read a model's components into main memory.

    Raises:
        BadModel: the source is not there, or is of another family.
        Exception: whatever diffusers, transformers, safetensors and the hub's client raise of damaged files.
    """
    if entry.source_kind == "file":
        return read_file(pipeline_class, entry, dtype, options)
    if entry.source_kind == "hub":
        folder = download(pipeline_class, entry, options)
    else:
        folder = EMBEDDED if entry.source_kind == "embedded" else Path(entry.source).expanduser()
    check_folder(folder, entry.family)
    check_weights(folder, entry.allow_pickle)
    parts = read_variants(folder, dtype, options) | changed_scheduler(folder, entry.prediction_type)
    return pipeline_class.from_pretrained(folder, dtype=dtype, local_files_only=True, **options, **parts)


def download(pipeline_class: type[DiffusionPipeline], entry: ModelEntry, options: dict[str, Any]) -> Path:
    """A model's folder in the hub's cache, with the variant fp16 of the weights where there are no others."""
    try:
        folder = Path(pipeline_class.download(entry.source, revision=entry.revision, **options))
        if lacks_weights(folder, options):
            return Path(pipeline_class.download(entry.source, revision=entry.revision, variant="fp16", **options))
    except Exception as error:
        at = f" at revision {entry.revision}" if entry.revision else ""
        raise BadModel(
            f"{entry.source}{at} is not in the hub's cache here and cannot be downloaded ({reason_of(error)}). "
            f"Download it where there is a network (hf download {entry.source}) and bring the cache here (HF_HOME), or "
            f"name a local folder; a relative one is written ./{entry.source}."
        ) from error
    return folder
