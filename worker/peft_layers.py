"""LoRA in a diffusers pipeline: adapters are read by diffusers and peft, put on and taken off.

An adapter's matrices lie beside the layers they change and are never merged into them (``W x + scale * B A x``): taken
off, a layer computes what it computed before, to the byte.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

from jobs.errors import BadLora
from jobs.lora_layers import NETWORK, PEFT_PREFIX, Layer, Width, flat_name, layers_of, misfit, width_key
from jobs.loras import LoraFile
from worker.state import AdapterSet

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
    widths = {}
    for part_name, part in parts_of(pipeline).items():
        component = part_name if part_name.startswith("text_encoder") else NETWORK
        for name, module in part.named_modules():
            if (width := _width(module)) is not None:
                widths[width_key(component, flat_name(component, name))] = width
    return widths


def _width(module: torch.nn.Module) -> Width | None:
    if isinstance(module, torch.nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, torch.nn.Conv2d):
        return module.in_channels, module.out_channels
    return None


def _tuned(pipeline: Any) -> Iterator[BaseTunerLayer]:
    """The layers that have adapters, on or off."""
    for part in parts_of(pipeline).values():
        yield from (module for module in part.modules() if isinstance(module, BaseTunerLayer))


def put_on(pipeline: Any, wanted: AdapterSet) -> None:
    """Have exactly ``wanted``, all of them loaded, act from now on."""
    for layer in _tuned(pipeline):
        layer.set_adapter([adapter.digest for adapter in wanted])
        for adapter in wanted:
            layer.set_scale(adapter.digest, adapter.scale)
        layer.enable_adapters(bool(wanted))


def delete(pipeline: Any, digest: str) -> None:
    """Unload one adapter; the last one takes peft's layers along, so that the networks are as they were made."""
    for layer in _tuned(pipeline):
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
    layers = _check(pipeline, file, widths)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", SEVERAL)
            pipeline.load_lora_weights(**_source(pipeline, file), adapter_name=digest)
        sizes = [_settle(layer, digest) for layer in _tuned(pipeline) if digest in layer.lora_A]
        if len(sizes) != len(layers):
            raise BadLora(f"Of the {len(layers)} layers of the adapter {file.name!r}, {len(sizes)} are in the model.")
    except Exception as error:
        delete(pipeline, digest)
        if isinstance(error, BadLora | torch.OutOfMemoryError):
            raise
        raise BadLora(f"The adapter {file.name!r} cannot be loaded ({type(error).__name__}).") from error
    finally:
        put_on(pipeline, ())
    return sum(sizes)


def _check(pipeline: Any, file: LoraFile, widths: Mapping[str, Width]) -> list[Layer]:
    """The file's layers as diffusers names them. Raises BadLora unless each is in the model, as wide.

    Checked before anything is loaded: diffusers would widen a Flux network's own layers to make an adapter fit.
    """
    if not isinstance(pipeline, LoraBaseMixin):
        raise BadLora(f"diffusers reads no adapters for {type(pipeline).__name__}.")
    unet = {"unet_config": pipeline.unet.config} if hasattr(pipeline, "unet") else {}
    try:
        converted = pipeline.lora_state_dict(**_source(pipeline, file), **unet)
        tensors = converted[0] if isinstance(converted, tuple) else converted
        layers = layers_of({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except Exception as error:
        raise BadLora(f"The adapter {file.name!r} cannot be read ({type(error).__name__}).") from error
    if reason := misfit(layers, widths):
        raise BadLora(f"The adapter {file.name!r} does not fit the model: {reason}.")
    return layers


def _source(pipeline: Any, file: LoraFile) -> dict[str, Any]:
    """Where diffusers finds the weights: the file, or its tensors under diffusers' names where they have PEFT's own."""
    weights = "pretrained_model_name_or_path_or_dict"
    if not file.peft_names:
        named = {"weight_name": file.path.name, "use_safetensors": True, "local_files_only": True}
        return {weights: str(file.path.parent), **named}
    prefix = "unet." if hasattr(pipeline, "unet") else "transformer."
    tensors = load_file(file.path)
    return {weights: {prefix + name.removeprefix(PEFT_PREFIX): tensor for name, tensor in tensors.items()}}


def _settle(layer: BaseTunerLayer, digest: str) -> int:
    """Cast to the dtype and move to the device of the layer itself; the bytes taken there."""
    layer.eval()  # a dropout that the adapter was trained with would act else
    base, matrices = layer.get_base_layer().weight, (layer.lora_A[digest], layer.lora_B[digest])
    if base.device.type != "meta":  # accelerate's hooks hold the weights: sequential offload
        for matrix in matrices:
            matrix.to(base.device, base.dtype)
    return sum(weight.numel() * weight.element_size() for matrix in matrices for weight in matrix.parameters())
