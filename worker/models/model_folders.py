"""Diffusers folders, on a disk or on the hub: whose they are, their parts, and why one cannot be had."""

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HfHubHTTPError

from jobs.errors import BadModel
from jobs.families import FAMILIES

OTHERS = {"Flux2": "FLUX.2", "FluxKontext": "FLUX Kontext", "QwenImageEdit": "Qwen-Image-Edit"}
"""Families that are not served, whose names begin as those of others do."""

PREFIXES = OTHERS | {facts.class_prefix: family for family, facts in FAMILIES.items() if facts.class_prefix}
"""How the class names in ``model_index.json`` begin -> family."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
"""How files end that are read by unpickling."""

LIBRARIES = ("diffusers", "transformers")
VARIANT = re.compile(r".+\.(?P<variant>[^.]+?)(?:-\d{5}-of-\d{5})?\.safetensors")
"""Weights of a variant, such as ``model.fp16.safetensors``."""


def check_folder(folder: Path, family: str) -> None:
    """Raise BadModel where there is no diffusers folder, or one of another family."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise BadModel(f"{folder} is no diffusers folder: it has no model_index.json.")
    found = str(json.loads(index.read_text()).get("_class_name"))
    longest_first = sorted(PREFIXES, key=len, reverse=True)
    is_family = next((PREFIXES[prefix] for prefix in longest_first if found.startswith(prefix)), family)
    if is_family != family:
        raise BadModel(f"{folder} holds a {is_family} model ({found}); the catalog says family {family!r}.")


def reason_of(error: Exception) -> str:
    """Why the hub's client gave nothing, in one line: diffusers puts words of its own before that."""
    cause = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
    return " ".join(str(cause).split())


def parts_of(folder: Path) -> dict[str, type[torch.nn.Module]]:
    """The classes of the networks that a diffusers folder names, by their names in it."""
    index = json.loads((folder / "model_index.json").read_text())
    named = {name: part for name, part in index.items() if isinstance(part, list) and part[0] in LIBRARIES}
    kinds = {name: getattr(importlib.import_module(part[0]), part[1]) for name, part in named.items()}
    return {name: kind for name, kind in kinds.items() if issubclass(kind, torch.nn.Module)}


def check_weights(folder: Path, allow_pickle: bool) -> None:
    """Raise BadModel where a part's weights are in pickles alone, which can run any code, and that is not allowed."""
    for name in () if allow_pickle else parts_of(folder):
        files = sorted((folder / name).glob("*"))
        pickles = [file for file in files if file.suffix in PICKLES]
        if pickles and not any(file.suffix == ".safetensors" for file in files):
            raise BadModel(
                f"{folder}: {name}/{pickles[0].name} is a pickle, and reading one can run any code. Convert it to "
                "safetensors; or, if you trust it, say allow_pickle = true in the catalog."
            )


def read_part(folder: Path, name: str, kind: Any, dtype: torch.dtype) -> torch.nn.Module:
    """One network of a diffusers folder, of the one variant that there is where the weights have no plain name."""
    part: torch.nn.Module = kind.from_pretrained(
        folder / name, dtype=dtype, variant=_only_variant(folder / name), local_files_only=True
    )
    return part


def read_variants(folder: Path, dtype: torch.dtype, options: Mapping[str, Any]) -> dict[str, torch.nn.Module]:
    """The networks whose weights are there as a variant alone, which diffusers would not look for."""
    kinds = {name: kind for name, kind in parts_of(folder).items() if name not in options}
    return {name: read_part(folder, name, kind, dtype) for name, kind in kinds.items() if _only_variant(folder / name)}


def lacks_weights(folder: Path, options: Mapping[str, Any]) -> bool:
    """Whether there are no weights of a network that a diffusers folder names."""
    parts = [folder / name for name in parts_of(folder) if name not in options]
    return not all([*part.glob("*.safetensors"), *part.glob("*.bin")] for part in parts)


def _only_variant(part: Path) -> str | None:
    """ "fp16" or the first one where the weights are there as variants alone."""
    found = [VARIANT.fullmatch(file.name) for file in part.glob("*.safetensors")]
    variants = sorted({match["variant"] for match in found if match})
    if not variants or not all(found):
        return None
    return "fp16" if "fp16" in variants else variants[0]
