"""LoRA adapters by request: what is loaded, and what is on. ``worker/models/peft_layers.py`` does it to the networks.

What is on is decided anew before every prompt encoding and every forward pass, by the batch's key, so that no request
acts on another.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

from peft.tuners.tuners_utils import BaseTunerLayer

from jobs.errors import BadLora, RequestError
from jobs.lora_layers import Width
from jobs.loras import LoraFile, LoraFolder
from jobs.schema import LoraChoice
from worker.denoise.state import Adapter, AdapterSet
from worker.families.base import Family
from worker.models import peft_layers


@dataclass
class Entry:
    size_bytes: int
    used: int
    """Number of its latest use, over all models."""


@dataclass
class ModelAdapters:
    """What one model has: adapters that are loaded, and those that are on."""

    widths: dict[str, Width]
    loaded: dict[str, Entry] = field(default_factory=dict)
    active: AdapterSet = ()
    layers: list[BaseTunerLayer] = field(default_factory=list)
    """Those that have adapters, on or off."""


class Adapters:
    """The adapters of all models of this worker.

    Args:
        folder: where the files are.
        budget_bytes: bytes of loaded adapters above which the least recently used go, but for those in use.
    """

    def __init__(self, folder: LoraFolder, budget_bytes: int) -> None:
        self.folder = folder
        self.budget_bytes = budget_bytes
        self._by_model: WeakKeyDictionary[Family, ModelAdapters] = (
            WeakKeyDictionary()
        )  # an evicted model takes its along
        self._files: dict[str, LoraFile] = {}
        self._uses = 0

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for adapters in self._by_model.values() for entry in adapters.loaded.values())

    def choose(self, choices: Sequence[LoraChoice]) -> AdapterSet:
        """The set that a request's ``loras`` name, as the files are now. Raises BadLora."""
        chosen = []
        for choice in choices:
            try:
                file = self.folder.file(choice.name)
                digest = _digest(file.path, file.size_bytes, file.changed_ns)
            except (RequestError, OSError) as error:  # it was there and could be read when the job was accepted
                raise BadLora(str(error)) from error
            self._files[digest] = file
            chosen.append(Adapter(digest, choice.name, choice.scale))
        return tuple(sorted(chosen))

    def widths(self, family: Family) -> dict[str, Width]:
        """How wide the layers are that an adapter can change: ``width_key`` -> inputs, outputs."""
        return self._of(family).widths

    def set_adapters(self, family: Family, wanted: AdapterSet, in_use: Collection[str] = ()) -> None:
        """Have exactly ``wanted`` act on the model from now on.

        Args:
            family: the model.
            wanted: loaded first where they are not.
            in_use: digests that stay loaded whatever the budget.

        Raises:
            BadLora: one cannot be loaded into this model. What was on is off then.
        """
        adapters = self._of(family)
        for adapter in wanted:
            if adapter.digest not in adapters.loaded:
                adapters.active = ()
                file = self._files[adapter.digest]
                try:
                    size_bytes = peft_layers.load(family.pipeline, file, adapter.digest, adapters.widths)
                finally:
                    adapters.layers = peft_layers.tuned_layers(family.pipeline)
                adapters.loaded[adapter.digest] = Entry(size_bytes, self._uses)
            self._uses += 1
            adapters.loaded[adapter.digest].used = self._uses
        if adapters.active != wanted:
            peft_layers.set_adapters(adapters.layers, wanted)
            adapters.active = wanted
        self._make_room({adapter.digest for adapter in wanted} | set(in_use))

    def _of(self, family: Family) -> ModelAdapters:
        if family not in self._by_model:
            self._by_model[family] = ModelAdapters(peft_layers.widths_of(family.pipeline))
        return self._by_model[family]

    def _make_room(self, kept: Collection[str]) -> None:
        while self.size_bytes > self.budget_bytes:
            idle = [
                (entry.used, digest, family)
                for family, adapters in self._by_model.items()
                for digest, entry in adapters.loaded.items()
                if digest not in kept
            ]
            if not idle:
                return
            _, digest, family = min(idle, key=lambda found: found[0])
            peft_layers.delete(family.pipeline, digest)
            del self._by_model[family].loaded[digest]
            self._by_model[family].layers = peft_layers.tuned_layers(family.pipeline)


@lru_cache(maxsize=1024)
def _digest(path: Path, size_bytes: int, changed_ns: int) -> str:  # noqa: ARG001  # another size or time: another file
    digest = hashlib.sha256(f"{path.stem}\n".encode())
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
