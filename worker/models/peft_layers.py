"""LoRA in a diffusers pipeline: adapters are read by diffusers and peft, put on and taken off.

An adapter's matrices lie beside the layers they change and are never merged into them (``W x + scale * B A x``): taken
off, a layer computes what it computed before, to the byte.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from peft.tuners.tuners_utils import BaseTunerLayer

from jobs.errors import BadLora
from jobs.lora_layers import NETWORK, Width, flat_name, width_key
from jobs.loras import LoraFile
from worker.denoise.device import is_out_of_memory
from worker.denoise.state import AdapterSet
from worker.models.adapter_files import Layers, Update, read_updates

SEVERAL = "Already found a `peft_config` attribute"
"""peft warns of every adapter after the first; here that is what is wanted."""


def parts_of(pipeline: Any) -> dict[str, torch.nn.Module]:
    """The networks of a pipeline that can have adapters, by their names in it; none without diffusers' LoRA loader."""
    if not isinstance(pipeline, LoraBaseMixin):
        return {}
    found = {name: getattr(pipeline, name, None) for name in pipeline._lora_loadable_modules}
    return {name: part for name, part in found.items() if part is not None}


def widths_of(pipeline: Any) -> dict[str, Width]:
    """How wide the layers are that an adapter can change: ``width_key`` -> inputs, outputs. Before any is loaded."""
    return {key: width for key, _, module in _modules(pipeline) if (width := _width(module)) is not None}


def _layers_of(pipeline: Any, widths: Mapping[str, Width]) -> Layers:
    """Where the layers of ``widths`` are, those that have adapters already among them."""
    return {
        key: place
        for key, place, module in _modules(pipeline)
        if key in widths and (_width(module) is not None or isinstance(module, BaseTunerLayer))
    }


def _modules(pipeline: Any) -> Iterator[tuple[str, tuple[str, str], torch.nn.Module]]:
    """Every module: its ``width_key``, its part of the pipeline with its name there, itself."""
    for part_name, part in parts_of(pipeline).items():
        component = part_name if part_name.startswith("text_encoder") else NETWORK
        for name, module in part.named_modules():
            yield width_key(component, flat_name(component, name)), (part_name, name), module


def _width(module: torch.nn.Module) -> Width | None:
    if isinstance(module, torch.nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, torch.nn.Conv2d):
        return module.in_channels, module.out_channels
    return None


def tuned_layers(pipeline: Any) -> list[BaseTunerLayer]:
    """The same, without their places: they stay the same until an adapter is loaded or deleted."""
    return list(_tuned(pipeline).values())


def _tuned(pipeline: Any) -> dict[tuple[str, str], BaseTunerLayer]:
    """The layers that have adapters, on or off, by part of the pipeline and name."""
    return {place: module for _, place, module in _modules(pipeline) if isinstance(module, BaseTunerLayer)}


def set_adapters(layers: Sequence[BaseTunerLayer], wanted: AdapterSet) -> None:
    """Have exactly ``wanted``, all of them loaded, act from now on. ``layers``: all ``tuned_layers`` of the pipeline.

    peft's ``set_adapter`` and ``enable_adapters`` set these attributes too, and walk over all weights besides, to have
    them trained or not: with two sets in turns a GPU would wait for that at every step.
    """
    names = [adapter.digest for adapter in wanted]
    for layer in layers:
        vars(layer).update(_active_adapter=names, _disable_adapters=not wanted)  # not by Module's slow __setattr__
        for adapter in wanted:
            layer.set_scale(adapter.digest, adapter.scale)


def delete(pipeline: Any, digest: str) -> None:
    """Unload one adapter; the last one takes peft's layers along, so that the networks are as they were made."""
    for layer in _tuned(pipeline).values():
        layer.set_adapter([other for other in layer.active_adapters if other != digest])
        layer.delete_adapter(digest)
    parts = parts_of(pipeline).values()
    for part in parts:
        getattr(part, "peft_config", {}).pop(digest, None)
    if not any(getattr(part, "peft_config", None) for part in parts):
        pipeline.unload_lora_weights()


def load(pipeline: Any, file: LoraFile, digest: str, widths: Mapping[str, Width]) -> int:
    """Load one adapter, to be called ``digest`` here. All adapters are off afterwards.

    Args:
        pipeline: diffusers' own.
        file: the adapter.
        digest: no adapter of this name is loaded.
        widths: the pipeline's, as ``widths_of`` gave them.

    Returns:
        The bytes it takes on the device.

    Raises:
        BadLora: it cannot be read, or does not fit; nothing of it is left behind then.
    """
    if not isinstance(pipeline, LoraBaseMixin):
        raise BadLora(f"diffusers reads no adapters for {type(pipeline).__name__}.")
    try:
        updates = read_updates(file, widths, _layers_of(pipeline, widths))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", SEVERAL)
            pipeline.load_lora_weights(_in_diffusers_names(updates), adapter_name=digest)
        return _set_scales(pipeline, file, digest, updates)
    except Exception as error:
        delete(pipeline, digest)
        if isinstance(error, BadLora) or is_out_of_memory(error):
            raise
        raise BadLora(f"The adapter {file.name!r} cannot be loaded ({type(error).__name__}).") from error
    finally:
        set_adapters(tuned_layers(pipeline), ())


def _in_diffusers_names(updates: list[Update]) -> dict[str, torch.Tensor]:
    """The matrices without their alphas, which diffusers would match to layers by name and not always find."""
    halves = {f"{update.part}.{update.layer}.lora_": update for update in updates}
    downs = {f"{name}A.weight": update.down for name, update in halves.items()}
    return downs | {f"{name}B.weight": update.up for name, update in halves.items()}


def _set_scales(pipeline: Any, file: LoraFile, digest: str, updates: list[Update]) -> int:
    """Give each layer the file's scale; the bytes taken on the device. Raises BadLora unless it is these layers."""
    loaded = {place: layer for place, layer in _tuned(pipeline).items() if digest in layer.lora_A}
    wanted = {(update.part, update.layer): update for update in updates}
    if odd := sorted(loaded.keys() ^ wanted.keys()):
        raise BadLora(f"The adapter {file.name!r} cannot be loaded into the layer {'.'.join(odd[0])!r}.")
    for place, layer in loaded.items():
        layer.use_rslora[digest] = False
        layer.lora_alpha[digest] = wanted[place].scale * layer.r[digest]  # peft: scaling = alpha / r
    return sum(_place(layer, digest) for layer in loaded.values())


def _place(layer: BaseTunerLayer, digest: str) -> int:
    """Cast to the dtype and move to the device of the layer itself; the bytes taken there."""
    base, matrices = layer.get_base_layer().weight, (layer.lora_A[digest], layer.lora_B[digest])
    if base.device.type != "meta":  # accelerate's hooks hold the weights: sequential offload
        for matrix in matrices:
            matrix.to(base.device, base.dtype)
    return sum(weight.numel() * weight.element_size() for matrix in matrices for weight in matrix.parameters())
