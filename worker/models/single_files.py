"""Models in a single ``.safetensors`` file, in the published naming or any other that diffusers reads.

Such a file holds weights only. diffusers takes the architecture from a folder of the same one; what the file has no
weights of is taken from there, too.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file import load_single_file_sub_model
from diffusers.loaders.single_file_utils import (
    DIFFUSERS_DEFAULT_PIPELINE_PATHS,
    LDM_VAE_KEYS,
    infer_diffusers_model_type,
    is_clip_model_in_single_file,
    is_t5_in_single_file,
    load_single_file_checkpoint,
)
from huggingface_hub import snapshot_download
from safetensors import safe_open

from jobs.catalog import ModelEntry
from jobs.errors import BadModel
from jobs.families import FAMILIES, Family
from worker.models.model_folders import check_folder, check_weights, parts_of, read_part, reason_of
from worker.models.prediction import changed_scheduler, is_mark, is_zero_snr, marked_prediction
from worker.models.scaled_weights import without_scales
from worker.models.unread_tensors import unread

FAMILY_OF_KIND = {kind: family for family, facts in FAMILIES.items() for kind in facts.single_file_kinds}
"""What diffusers calls the kinds of single files -> family."""

PICKLE = "a pickle, which can run any code when it is opened"
GGUF = "a GGUF file, whose weights are kept in blocks of a few bits"

UNKNOWN_KIND = "v1"
"""diffusers' word for what it does not know, too."""

NETWORKS = ("unet", "transformer")
"""Parts that every single file holds."""

NAMED = 5
"""Of the tensors that nothing reads, how many an error names."""

CONFIG_FILES = ["*.json", "**/*.json", "*.txt", "**/*.txt", "**/*.model"]


def read_file(
    pipeline_class: type[DiffusionPipeline], entry: ModelEntry, dtype: torch.dtype, options: dict[str, Any]
) -> DiffusionPipeline:
    """A single file holds weights only; diffusers takes the architecture, and what else is missing, from a folder."""
    file = Path(entry.source).expanduser()
    if file.suffix.lower() != ".safetensors":
        kind = GGUF if file.suffix.lower() == ".gguf" else PICKLE
        raise BadModel(f"{file} is {kind}; it is not read. Convert it to .safetensors, or name a diffusers folder.")
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
    check_weights(config, entry.allow_pickle)
    if entry.family == "flux":
        _check_guidance(file, weights, config)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
    scheduler = _scheduler(entry, config, weights, metadata)
    weights = without_scales(file, weights, metadata, dtype)
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    parts, borrowed = _read_parts(file, weights, config, dtype)
    _check_all_read(file, entry.family, shapes, list(parts.values()))
    given = {**parts, **borrowed, **scheduler, **options}
    return _checked(pipeline_class.from_pretrained(config, dtype=dtype, local_files_only=True, **given), file)


def _scheduler(entry: ModelEntry, folder: Path, names: Collection[str], metadata: Mapping[str, str]) -> dict[str, Any]:
    """By the catalog's word, else the file's marks; flows have none."""
    if FAMILIES[entry.family].law != "diffusion":
        return {}
    own = entry.prediction_type
    prediction = marked_prediction(names, metadata) if own == "auto" else own
    return changed_scheduler(folder, prediction, is_zero_snr(names))


def _check_guidance(file: Path, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Raise BadModel where the file's network takes a guidance scale and the configs' does not, or the other way."""
    takes_scale = any("guidance_" in name for name in weights)
    network = json.loads((folder / "transformer" / "config.json").read_text())
    if takes_scale != network.get("guidance_embeds", False):
        theirs, ours = ("dev or Fill", "schnell") if takes_scale else ("schnell", "dev or Fill")
        raise BadModel(f"{file} holds a network like FLUX.1 {theirs}; the configs in {folder} are of one like {ours}.")


def _read_parts(
    file: Path, weights: dict[str, torch.Tensor], folder: Path, dtype: torch.dtype
) -> tuple[dict[str, torch.nn.Module], dict[str, torch.nn.Module]]:
    """The networks that the file holds, and those of the folder where it has no weights of them.

    ``weights`` are used up: some of diffusers' readers take out what they have read, which saves memory.
    """
    held, borrowed = {}, {}
    kinds = parts_of(folder)
    for name in sorted(kinds, key=NETWORKS.__contains__):  # those that use up the weights are the last
        kind: Any = kinds[name]
        if name in NETWORKS or (name.startswith(("vae", "text_encoder")) and _holds(weights, kind)):
            held[name] = _read_held(file, weights, folder, name, kind, dtype)
        elif name.startswith(("vae", "text_encoder")):
            borrowed[name] = _borrow(file, folder, name, kind, dtype)
    return held, borrowed


def _read_held(
    file: Path, weights: dict[str, torch.Tensor], folder: Path, name: str, kind: Any, dtype: torch.dtype
) -> torch.nn.Module:
    """A network from the file. diffusers itself would read the file anew, with its scales."""
    library = "transformers" if issubclass(kind, transformers.PreTrainedModel) else "diffusers"
    settings = {"cached_model_config_path": str(folder), "local_files_only": True, "torch_dtype": dtype}
    try:
        part: torch.nn.Module = load_single_file_sub_model(
            library, kind.__name__, name, weights, diffusers.pipelines, is_pipeline_module=False, **settings
        )
    except NotImplementedError as error:  # torch's, of a network that is not filled
        raise BadModel(f"{file} has not all the weights that the configs in {folder} tell of.") from error
    return part


def _borrow(file: Path, folder: Path, name: str, kind: Any, dtype: torch.dtype) -> torch.nn.Module:
    """A VAE or text encoder that a single file has no weights of, from a diffusers folder."""
    try:
        return read_part(folder, name, kind, dtype)
    except OSError as error:
        raise BadModel(
            f"{file} has no weights of the {name}, and they cannot be read from {folder} ({_first_line(error)}). "
            'Name a diffusers folder that has them in the catalog: config = "/path/to/folder".'
        ) from error


def _check_all_read(file: Path, family: Family, shapes: Mapping[str, torch.Size], held: list[torch.nn.Module]) -> None:
    """Raise BadModel naming tensors that are in none of the parts: the file is something else than it is read as."""
    marked = FAMILIES[family].law == "diffusion"
    left = [name for name in unread(shapes, held) if not (marked and is_mark(name))]
    if left:
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        raise BadModel(
            f"{file} has tensors that nothing reads: {', '.join(name[:200] for name in left[:NAMED])}{more}. It is of "
            "another kind than it is read as, or made by a tool whose additions are not known here."
        )


def _holds(weights: Mapping[str, torch.Tensor], kind: Any) -> bool:
    """Whether a single file has a VAE or text encoder, by the names that diffusers looks for."""
    if kind.__name__.startswith("Autoencoder"):
        return any(name.startswith(tuple(LDM_VAE_KEYS)) for name in weights)
    return bool(
        is_clip_model_in_single_file(kind, weights) or ("T5" in kind.__name__ and is_t5_in_single_file(weights))
    )


def _checked(pipeline: DiffusionPipeline, file: Path) -> DiffusionPipeline:
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
