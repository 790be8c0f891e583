"""Diffusers folders, on a disk or on the hub: whose they are, and why one cannot be had."""

import json
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError

from jobs.errors import BadModel

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

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")


def check_folder(folder: Path, family: str) -> None:
    """Raise BadModel where there is no diffusers folder, or one of another family."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise BadModel(f"{folder} is no diffusers folder: it has no model_index.json.")
    found = str(json.loads(index.read_text()).get("_class_name"))
    is_family = next((name for prefix, name in FAMILY_PREFIXES.items() if found.startswith(prefix)), family)
    if is_family != family:
        raise BadModel(f"{folder} holds a {is_family} model ({found}); the catalog says family {family!r}.")


def check_weights(folder: Path, parts: Iterable[str]) -> None:
    """Raise BadModel for a part of the model whose weights are in pickles alone: reading one can run any code."""
    for part in parts:
        files = [file for file in (folder / part).glob("*") if file.is_file()]
        pickles = sorted(file.name for file in files if file.suffix in PICKLES)
        if pickles and not any(file.suffix == ".safetensors" for file in files):
            raise BadModel(
                f"{folder / part / pickles[0]} is a pickle, and there is no .safetensors file beside it. Reading a "
                "pickle can run any code. Convert it, or trust the folder in the catalog: allow_pickle = true."
            )


def reason_of(error: Exception) -> str:
    """Why the hub's client gave nothing, in one line: diffusers puts words of its own before that."""
    cause = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
    return " ".join(str(cause).split())
