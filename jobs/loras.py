"""The folder of LoRA adapters (``INFILL_LORA_DIR``): what is in it, read from the files' headers, without torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from jobs.errors import InvalidLora, LoraMismatch, UnknownLora
from jobs.lora_layers import Layer, Width, families_of, has_peft_names, layers_of, misfit

MAX_HEADER_BYTES = 100_000_000
"""As in the safetensors library itself."""
KNOWN_SHOWN = 20


@dataclass(frozen=True)
class LoraFile:
    """One adapter. ``families``: those whose networks have such layers; several where the file leaves it open."""

    name: str
    path: Path
    size_bytes: int
    changed_ns: int
    peft_names: bool
    layers: tuple[Layer, ...]
    families: tuple[str, ...]

    @property
    def rank(self) -> int:
        """The largest among its layers."""
        return max(layer.rank for layer in self.layers)

    def check_fits(self, model: str, family: str, widths: Mapping[str, Width] | None) -> None:
        """Raise LoraMismatch unless the adapter can be used with a model; ``widths`` are None while unknown."""
        if family not in self.families:
            made_for = " or ".join(self.families)
            raise LoraMismatch(f"loras: {self.name!r} was made for {made_for}; model {model!r} is {family}.")
        if widths is not None and (reason := misfit(self.layers, widths)):
            raise LoraMismatch(f"loras: {self.name!r} does not fit model {model!r}: {reason}.")


class LoraFolder:
    """The ``.safetensors`` files right inside ``folder``; a file's name without the suffix is the adapter's name.

    A name is looked up among those found, never made into a path, so that none leads out of the folder.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = Path(folder) if folder else None

    def paths(self) -> dict[str, Path]:
        """Name -> file, sorted; empty without a folder."""
        if self.folder is None:
            return {}
        found = sorted(path for path in self.folder.glob("*.safetensors") if path.is_file())
        return {path.stem: path for path in found if path.stem.isprintable()}  # JSON can hold no others

    def file(self, name: str) -> LoraFile:
        """Read the header of one adapter. Raises UnknownLora, which lists the known names, and InvalidLora."""
        paths = self.paths()
        if name not in paths:
            raise UnknownLora(f"loras: there is no {name!r}. {_listed(list(paths))}")
        return describe(paths[name])


def _listed(names: list[str]) -> str:
    if not names:
        return "This service has no adapters; INFILL_LORA_DIR names their folder."
    more = f" and {len(names) - KNOWN_SHOWN} more, see /v1/loras" if len(names) > KNOWN_SHOWN else ""
    return f"Known adapters: {', '.join(names[:KNOWN_SHOWN])}{more}."


def describe(path: Path) -> LoraFile:
    """What a file says of itself; read again only when it has changed. Raises InvalidLora naming the adapter."""
    try:
        stat = path.stat()
        return _describe(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InvalidLora(f"loras: {path.stem!r} cannot be read: {error.strerror}.") from error
    except InvalidLora as error:
        raise InvalidLora(f"loras: {path.stem!r} cannot be used: {error}.") from error


@lru_cache(maxsize=1024)
def _describe(path: Path, size_bytes: int, changed_ns: int) -> LoraFile:
    with path.open("rb") as file:
        shapes = tensor_shapes(file, size_bytes)
    layers = layers_of(shapes)
    return LoraFile(path.stem, path, size_bytes, changed_ns, has_peft_names(shapes), tuple(layers), families_of(layers))


def tensor_shapes(file: BinaryIO, size_bytes: int) -> dict[str, list[int]]:
    """Each tensor's shape, from a safetensors header: its length (8 bytes, little endian), then JSON.

    Source: the format's description in the safetensors repository. Raises InvalidLora.
    """
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MAX_HEADER_BYTES, size_bytes - 8):
        raise InvalidLora("it is not a safetensors file, or it is cut short")
    try:
        header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        shapes = {name: [int(side) for side in entry["shape"]] for name, entry in entries.items()}
        end = max((_end(entry) for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidLora("its header is not that of a safetensors file") from None
    if end != size_bytes - 8 - length:
        raise InvalidLora(f"its header speaks of {end} bytes of weights and it has {size_bytes - 8 - length}")
    return shapes


def _end(entry: Mapping[str, Any]) -> int:
    """Where a tensor's bytes end, counted from the end of the header."""
    _, end = entry["data_offsets"]
    return int(end)
