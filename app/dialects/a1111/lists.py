"""What the web UI lists: models, samplers, adapters; and what there is none of here."""

from collections.abc import Callable
from typing import Any

from app.backend import Backend
from app.dialects.a1111 import samplers
from app.schedulers import offered_schedulers

ROOT = "/sdapi/v1"

Listing = Callable[[Backend], Any]


def _models(backend: Backend) -> list[dict[str, Any]]:
    return [
        {"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name, "config": None}
        for name in backend.catalog.models
    ]


def _samplers(backend: Backend) -> list[dict[str, Any]]:
    """Those that fit any model."""
    offered = {scheduler for names in offered_schedulers(backend).values() for scheduler in names}
    return [
        {"name": name, "aliases": list(samplers.SAMPLERS[name][1]), "options": {}} for name in samplers.fitting(offered)
    ]


def _schedulers(_: Backend) -> list[dict[str, Any]]:
    names = {"automatic": "Automatic", "karras": "Karras"}
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name, label in names.items()
    ]


def _loras(backend: Backend) -> list[dict[str, Any]]:
    return [{"name": name, "alias": name, "path": name, "metadata": {}} for name in backend.loras.paths()]


def _upscalers(_: Backend) -> list[dict[str, Any]]:
    return [{"name": "None", "model_name": None, "model_path": None, "model_url": None, "scale": 1}]


def _none(_: Backend) -> list[Any]:
    return []


UNKNOWN = {"error": "not shown by this service"}

LISTS: dict[str, Listing] = {
    f"{ROOT}/sd-models": _models,
    f"{ROOT}/samplers": _samplers,
    f"{ROOT}/schedulers": _schedulers,
    f"{ROOT}/loras": _loras,
    f"{ROOT}/upscalers": _upscalers,
    **{
        f"{ROOT}/{name}": _none
        for name in (
            *("sd-vae", "sd-modules", "hypernetworks", "face-restorers", "realesrgan-models", "prompt-styles"),
            *("latent-upscale-modes", "script-info", "extensions"),
        )
    },
    f"{ROOT}/embeddings": lambda _: {"loaded": {}, "skipped": {}},
    f"{ROOT}/memory": lambda _: {"ram": UNKNOWN, "cuda": UNKNOWN},
    f"{ROOT}/cmd-flags": lambda _: {},
    f"{ROOT}/scripts": lambda _: {"txt2img": [], "img2img": []},
    "/controlnet/model_list": lambda _: {"model_list": []},
    "/controlnet/module_list": lambda _: {"module_list": []},
    "/internal/ping": lambda _: {},
}
"""Address -> what is answered there."""
