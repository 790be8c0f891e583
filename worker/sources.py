"""Where a model's files come from: the project itself, a diffusers folder, a single file, or the hub."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from jobs.catalog import ModelEntry
from jobs.errors import BadModel
from worker.model_folders import check_folder, check_weights, reason_of
from worker.single_files import read_file

EMBEDDED = Path(__file__).with_name("pocket") / "model"


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
        return _read_hub(pipeline_class, entry, dtype, options)
    folder = EMBEDDED if entry.source_kind == "embedded" else Path(entry.source).expanduser()
    return _read_folder(pipeline_class, folder, entry, dtype, options)


def _read_folder(
    pipeline_class: type[DiffusionPipeline],
    folder: Path,
    entry: ModelEntry,
    dtype: torch.dtype,
    options: dict[str, Any],
) -> DiffusionPipeline:
    check_folder(folder, entry.family)
    if not entry.allow_pickle:
        check_weights(folder, pipeline_class.load_config(folder, local_files_only=True))
    return pipeline_class.from_pretrained(
        folder, dtype=dtype, local_files_only=True, use_safetensors=_safetensors(entry), **options
    )


def _safetensors(entry: ModelEntry) -> bool | None:
    """None: diffusers prefers them, and takes a pickle where there are none."""
    return None if entry.allow_pickle else True


def _read_hub(
    pipeline_class: type[DiffusionPipeline], entry: ModelEntry, dtype: torch.dtype, options: dict[str, Any]
) -> DiffusionPipeline:
    try:
        folder = pipeline_class.download(
            entry.source, revision=entry.revision, use_safetensors=_safetensors(entry), **options
        )
    except Exception as error:
        if "`safetensors` weights" in str(error):  # diffusers' word for it
            raise BadModel(
                f"{entry.source} on the hub has weights in pickles alone. Reading a pickle can run any code. Name a "
                "model with .safetensors files, or trust this one in the catalog: allow_pickle = true."
            ) from error
        at = f" at revision {entry.revision}" if entry.revision else ""
        raise BadModel(
            f"{entry.source}{at} is not in the hub's cache here and cannot be downloaded ({reason_of(error)}). "
            f"Download it where there is a network (hf download {entry.source}) and bring the cache here (HF_HOME), or "
            f"name a local folder; a relative one is written ./{entry.source}."
        ) from error
    return _read_folder(pipeline_class, Path(folder), entry, dtype, options)
