"""Where a model's files come from: the project itself, a diffusers folder, a single file, or the hub."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_DEFAULT_PIPELINE_PATHS,
    infer_diffusers_model_type,
    load_single_file_checkpoint,
)
from huggingface_hub import snapshot_download

from jobs.catalog import ModelEntry
from jobs.errors import BadModel

EMBEDDED = Path(__file__).with_name("pocket") / "model"

FAMILY_PREFIXES = {
    "StableDiffusion3": "sd3",
    "StableDiffusionXL": "sdxl",
    "StableDiffusion": "sd",
    "Flux2": "FLUX.2",
    "FluxKontext": "FLUX Kontext",
    "Flux": "flux",
    "QwenImageEdit": "Qwen-Image-Edit",
    "QwenImage": "qwen-image",
}
"""How the class names in ``model_index.json`` begin -> family. The longest beginning is listed first."""

FAMILY_OF_KIND = {
    "v1": "sd",
    "v2": "sd",
    "inpainting": "sd",
    "inpainting_v2": "sd",
    "xl_base": "sdxl",
    "xl_inpaint": "sdxl",
    "sd3": "sd3",
    "sd35_medium": "sd3",
    "sd35_large": "sd3",
    "flux-dev": "flux",
    "flux-schnell": "flux",
    "flux-fill": "flux",
}
"""What diffusers calls the kinds of single files -> family."""

UNKNOWN_KIND = "v1"
"""diffusers' word for what it does not know, too."""

CONFIG_FILES = ["*.json", "**/*.json", "*.txt", "**/*.txt", "**/*.model"]


def read_pipeline(
    pipeline_class: type[DiffusionPipeline], entry: ModelEntry, dtype: torch.dtype, options: dict[str, Any]
) -> DiffusionPipeline:
    """Read a model's components into main memory.

    Raises:
        BadModel: the source is not there, or is of another family.
        Exception: whatever diffusers, transformers, safetensors and the hub's client raise of damaged files.
    """
    if entry.source_kind == "file":
        return _read_file(pipeline_class, entry, dtype, options)
    if entry.source_kind == "hub":
        return _read_hub(pipeline_class, entry, dtype, options)
    folder = EMBEDDED if entry.source_kind == "embedded" else Path(entry.source).expanduser()
    _check_folder(folder, entry.family)
    return pipeline_class.from_pretrained(folder, dtype=dtype, local_files_only=True, **options)


def _check_folder(folder: Path, family: str) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise BadModel(f"{folder} is no diffusers folder: it has no model_index.json.")
    found = str(json.loads(index.read_text()).get("_class_name"))
    is_family = next((name for prefix, name in FAMILY_PREFIXES.items() if found.startswith(prefix)), family)
    if is_family != family:
        raise BadModel(f"{folder} holds a {is_family} model ({found}); the catalog says family {family!r}.")


def _read_file(
    pipeline_class: type[DiffusionPipeline], entry: ModelEntry, dtype: torch.dtype, options: dict[str, Any]
) -> DiffusionPipeline:
    """A single file holds weights only; diffusers takes the architecture, and what else is missing, from a folder."""
    file = Path(entry.source).expanduser()
    if not file.is_file():
        raise BadModel(f"There is no file {file}.")
    if not hasattr(pipeline_class, "from_single_file"):
        raise BadModel(f"diffusers reads no single files of family {entry.family!r}; name a diffusers folder instead.")
    kind = infer_diffusers_model_type(load_single_file_checkpoint(file))
    if kind != UNKNOWN_KIND and FAMILY_OF_KIND.get(kind, kind) != entry.family:
        raise BadModel(f"{file} is a checkpoint of the kind {kind!r}; the catalog says family {entry.family!r}.")
    config = Path(entry.config).expanduser() if entry.config else _fetch_configs(file, kind, entry.family)
    _check_folder(config, entry.family)
    return pipeline_class.from_single_file(file, config=str(config), dtype=dtype, local_files_only=True, **options)


def _fetch_configs(file: Path, kind: str, family: str) -> Path:
    """The configs of the published model of that kind, from the hub or its cache."""
    remedy = 'Name a diffusers folder of the same architecture in the catalog: config = "/path/to/folder".'
    if FAMILY_OF_KIND.get(kind) != family:
        raise BadModel(f"{file} holds weights only, and nothing in it says of which model. {remedy}")
    published = DIFFUSERS_DEFAULT_PIPELINE_PATHS[kind]["pretrained_model_name_or_path"]
    try:
        return Path(snapshot_download(published, allow_patterns=CONFIG_FILES))
    except Exception as error:
        raise BadModel(
            f"{file} holds weights only, and the configs of {published} cannot be had from the hub "
            f"({_first_line(error)}). {remedy}"
        ) from error


def _read_hub(
    pipeline_class: type[DiffusionPipeline], entry: ModelEntry, dtype: torch.dtype, options: dict[str, Any]
) -> DiffusionPipeline:
    try:
        folder = pipeline_class.download(entry.source, revision=entry.revision, **options)
    except Exception as error:
        at = f" at revision {entry.revision}" if entry.revision else ""
        raise BadModel(
            f"{entry.source}{at} is not in the hub's cache here and cannot be downloaded ({_first_line(error)}). "
            f"Download it where there is a network (hf download {entry.source}) and bring the cache here (HF_HOME), or "
            f"name a local folder; a relative one is written ./{entry.source}."
        ) from error
    _check_folder(Path(folder), entry.family)
    return pipeline_class.from_pretrained(folder, dtype=dtype, local_files_only=True, **options)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
