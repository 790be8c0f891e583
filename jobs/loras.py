"""The folder of LoRA adapters (``INFILL_LORA_DIR``): what is in it, read from the files' headers, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from jobs.errors import InvalidLora, LoraMismatch, UnknownLora
from jobs.lora_config import LoraConfig, configs_of
from jobs.lora_layers import Layer, Width, families_of, layers_of, misfit

DTYPES = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""What an adapter's matrices can be."""
KNOWN_SHOWN = 20
MAX_HEADER_BYTES, MAX_TENSORS = 8 * 2**20, 20_000
"""Beyond those of any adapter; the largest published ones have some 2,000 tensors."""


@dataclass(frozen=True)
class LoraFile:
    """One adapter.

    ``configs``: component -> what the header gives of its alphas. ``families``: those whose networks have such layers;
    several where the file leaves it open.
    """

    name: str
    path: Path
    size_bytes: int
    changed_ns: int
    layers: tuple[Layer, ...]
    configs: Mapping[str, LoraConfig]
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
        return self.describe(paths[name])

    def describe(self, path: Path) -> LoraFile:
        """What a file of ``paths`` says of itself; read again only when it has changed.

        Raises InvalidLora naming the adapter, also for a link that leads out of the folder.
        """
        try:
            if self.folder is None or not path.resolve().is_relative_to(self.folder.resolve()):
                raise InvalidLora("it is a link that leads out of the folder of adapters")
            stat = path.stat()
            found = _describe(path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise InvalidLora(f"loras: {path.stem!r} cannot be read: {error.strerror}.") from error
        except InvalidLora as error:
            raise InvalidLora(f"loras: {path.stem!r} cannot be used: {error}.") from error
        if isinstance(found, str):
            raise InvalidLora(f"loras: {path.stem!r} cannot be used: {found}.")
        return found


def _listed(names: list[str]) -> str:
    if not names:
        return "This service has no adapters. Send the request without loras."
    more = f" and {len(names) - KNOWN_SHOWN} more, see /v1/loras" if len(names) > KNOWN_SHOWN else ""
    return f"Known adapters: {', '.join(names[:KNOWN_SHOWN])}{more}."


@lru_cache(maxsize=4096)
def _describe(path: Path, size_bytes: int, changed_ns: int) -> LoraFile | str:
    """The adapter, or why it is none: reading that again would cost as much as finding it out."""
    try:
        return _read(path, size_bytes, changed_ns)
    except InvalidLora as error:
        return str(error)
    except OSError:
        raise  # it can be another one the next time
    except Exception as error:  # one file must not take the list of all down
        return f"its header cannot be understood ({type(error).__name__})"


def _read(path: Path, size_bytes: int, changed_ns: int) -> LoraFile:
    with path.open("rb") as start:
        header_bytes = int.from_bytes(start.read(8), "little")
    if MAX_HEADER_BYTES < header_bytes < size_bytes:
        raise InvalidLora(f"its header of {header_bytes} bytes is larger than the {MAX_HEADER_BYTES} that are allowed")
    try:
        with safe_open(path, framework="numpy") as file:  # reads the header alone, and does not import numpy
            names = list(file.keys())
            if len(names) > MAX_TENSORS:
                raise InvalidLora(f"its {len(names)} tensors are more than the {MAX_TENSORS} that are allowed")
            tensors = {name: file.get_slice(name) for name in names}
            shapes = {name: tensor.get_shape() for name, tensor in tensors.items()}
            dtypes = {name: tensor.get_dtype() for name, tensor in tensors.items()}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InvalidLora("it is not a safetensors file, or lacks some of its bytes of weights") from error
    layers = tuple(layers_of(shapes))
    for name, dtype in dtypes.items():
        if dtype not in DTYPES and not name.endswith(".alpha"):
            raise InvalidLora(f"its tensor {name[:200]!r} holds {dtype}, not one of {', '.join(DTYPES)}")
    return LoraFile(path.stem, path, size_bytes, changed_ns, layers, configs_of(metadata), families_of(layers))
