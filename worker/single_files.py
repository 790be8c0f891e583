"""Models in a single ``.safetensors`` file, in the published naming or any other that diffusers reads.

Such a file holds weights only. diffusers takes the architecture from a folder of the same one; what the file has no
weights of is taken from there, too.
"""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_DEFAULT_PIPELINE_PATHS,
    LDM_VAE_KEYS,
    infer_diffusers_model_type,
    is_clip_model_in_single_file,
    is_t5_in_single_file,
    load_single_file_checkpoint,
)
from huggingface_hub import snapshot_download

from jobs.catalog import ModelEntry
from jobs.errors import BadModel
from worker.model_folders import check_folder, check_weights, reason_of

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


def read_file(
    pipeline_class: type[DiffusionPipeline], entry: ModelEntry, dtype: torch.dtype, options: dict[str, Any]
) -> DiffusionPipeline:
    """A single file holds weights only; diffusers takes the architecture, and what else is missing, from a folder."""
    file = Path(entry.source).expanduser()
    if not file.is_file():
        raise BadModel(f"There is no file {file}.")
    if not hasattr(pipeline_class, "from_single_file"):
        raise BadModel(f"diffusers reads no single files of family {entry.family!r}; name a diffusers folder instead.")
    weights = load_single_file_checkpoint(file)
    kind = infer_diffusers_model_type(weights)
    if kind != UNKNOWN_KIND and FAMILY_OF_KIND.get(kind, kind) != entry.family:
        raise BadModel(f"{file} is a checkpoint of the kind {kind!r}; the catalog says family {entry.family!r}.")
    config = Path(entry.config).expanduser() if entry.config else _fetch_configs(file, kind, entry.family)
    check_folder(config, entry.family)
    if entry.family == "flux":
        _check_guidance(file, weights, config)
    parts = _read_lacking(file, weights, config, dtype, entry.allow_pickle)
    try:
        pipeline = pipeline_class.from_single_file(
            file, config=str(config), dtype=dtype, local_files_only=True, **parts, **options
        )
    except NotImplementedError as error:  # torch's, of a network that is not filled
        raise BadModel(f"{file} has not all the weights that the configs in {config} tell of.") from error
    return _settled(pipeline, file)


def _check_guidance(file: Path, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """diffusers would say nothing of a guidance scale that the file's network is told and the configs' is not."""
    told = any("guidance_" in name for name in weights)
    network = json.loads((folder / "transformer" / "config.json").read_text())
    if told != network.get("guidance_embeds", False):
        theirs, ours = ("dev or Fill", "schnell") if told else ("schnell", "dev or Fill")
        raise BadModel(f"{file} holds a network like FLUX.1 {theirs}; the configs in {folder} are of one like {ours}.")


def _read_lacking(
    file: Path, weights: Mapping[str, torch.Tensor], folder: Path, dtype: torch.dtype, allow_pickle: bool
) -> dict[str, torch.nn.Module]:
    """The VAE and the text encoders that a single file has no weights of, from a diffusers folder.

    diffusers itself takes a VAE from the file only, and does not know what text encoders' weights are called.
    """
    index = json.loads((folder / "model_index.json").read_text())
    read = {}
    for name, part in index.items():
        if not (name == "vae" or name.startswith("text_encoder")) or part[0] is None:
            continue
        kind: Any = getattr(importlib.import_module(part[0]), part[1])
        if _holds(weights, kind):
            continue
        if not allow_pickle:
            check_weights(folder, [name])
        try:
            read[name] = kind.from_pretrained(
                folder / name, dtype=dtype, local_files_only=True, use_safetensors=None if allow_pickle else True
            )
        except OSError as error:
            raise BadModel(
                f"{file} has no weights of the {name}, and they cannot be read from {folder} ({_first_line(error)}). "
                'Name a diffusers folder that has them in the catalog: config = "/path/to/folder".'
            ) from error
    return read


def _holds(weights: Mapping[str, torch.Tensor], kind: Any) -> bool:
    """Whether a single file has a VAE or text encoder, by the names that diffusers looks for."""
    if kind.__name__.startswith("Autoencoder"):
        return any(name.startswith(tuple(LDM_VAE_KEYS)) for name in weights)
    return bool(
        is_clip_model_in_single_file(kind, weights) or ("T5" in kind.__name__ and is_t5_in_single_file(weights))
    )


def _settled(pipeline: DiffusionPipeline, file: Path) -> DiffusionPipeline:
    """What diffusers leaves undone: it has T5 drop out at random, as in training, and not share its embeddings."""
    for name, part in pipeline.components.items():
        if isinstance(part, transformers.PreTrainedModel):
            part.eval().tie_weights()
            if any(tensor.is_meta for tensor in part.state_dict().values()):
                raise BadModel(f"{file} has not all the weights of the {name}.")
    return pipeline


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
            f"({reason_of(error)}). {remedy}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
