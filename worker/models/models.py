"""Which models lie on the device: loaded on first use, the least recently used gives way. Policy only, no torch.

A model is read into main memory first; then its size is known, and room is made before it goes to the device.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from jobs.catalog import ModelEntry
from jobs.errors import BadModel, ModelUnavailable
from jobs.segmenters import SegmenterEntry
from jobs.speed import Speed
from worker.families.base import Family
from worker.families.clipseg import ClipSeg

log = logging.getLogger("worker.models.models")

RETRY_S = 60.0
"""How long a model that could not be loaded is not tried again: a try holds up every other job of the worker."""


Entry = ModelEntry | SegmenterEntry
Placed = Family | ClipSeg


class DeviceFull(Exception):
    """The device has no room left for a model."""


class ReadModel(Protocol):
    """A model in main memory."""

    @property
    def size_bytes(self) -> int:
        """Bytes of weights."""
        ...

    def place(self) -> Placed:
        """Bring it to the device. Raises BadModel, DeviceFull."""
        ...


@dataclass
class Held:
    """A model on the device."""

    size_bytes: int
    used: int
    """Number of its latest use, over all models."""


def to_evict(held: Mapping[str, Held], needed_bytes: int, budget_bytes: int, kept: Collection[str]) -> list[str] | None:
    """Names that must go so that ``needed_bytes`` more fit, least recently used first; None if they cannot.

    Args:
        held: what lies on the device.
        needed_bytes: size of the model that is to come.
        budget_bytes: bytes of weights on the device at most; 0 for no limit.
        kept: names that must stay.
    """
    excess = sum(model.size_bytes for model in held.values()) + needed_bytes - budget_bytes
    going: list[str] = []
    for name in sorted(held.keys() - set(kept), key=lambda name: held[name].used):
        if not budget_bytes or excess <= 0:
            break
        going.append(name)
        excess -= held[name].size_bytes
    return going if not budget_bytes or excess <= 0 else None


class Models(Mapping[str, Family]):
    """The models on the device, by name; segmenters beside them, which share their room.

    Args:
        entries: the catalog's models, then its segmenters; the first is loaded at the start where none is pinned.
        read: reads a model's files into main memory. Raises BadModel.
        budget_bytes: bytes of weights on the device at most; 0 for no limit.
        measure: how fast a model runs, asked once after its first load.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        read: Callable[[str, Any], ReadModel],
        budget_bytes: int = 0,
        measure: Callable[[Family, ModelEntry], Sequence[Speed]] | None = None,
    ) -> None:
        self.entries = entries
        self.speeds: dict[str, Sequence[Speed]] = {}
        """What was measured of every model that has been loaded, also of those that have been evicted since."""
        self.on_load: Callable[[bool], object] = bool
        """Called with True before the main thread is held up by a load, and with False after it."""
        self._read = read
        self._measure = measure
        self._budget_bytes = budget_bytes
        self._pinned = {name for name, entry in entries.items() if entry.pinned}
        self._held: dict[str, Held] = {}
        self._families: dict[str, Family] = {}
        self.segmenters: dict[str, ClipSeg] = {}
        """Those on the device."""
        self._waiting: tuple[str, ReadModel] | None = None
        self._failed_at: dict[str, float] = {}
        self._uses = 0

    def __getitem__(self, name: str) -> Family:
        return self._families[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._families))

    def __len__(self) -> int:
        return len(self._families)

    def load_first(self) -> None:
        """Load what is pinned, or the first model where nothing is. Raises BadModel."""
        first = self._pinned or {next(iter(self.entries))}
        for name in [name for name in self.entries if name in first]:
            if not self._load(name, in_use=first):
                raise BadModel(f"The pinned models do not fit together into {self._budget_bytes} bytes.")

    def ready(self, name: str, in_use: Collection[str]) -> bool:
        """Load ``name`` unless it is loaded; False while it has to wait for models that are in use.

        Raises:
            ModelUnavailable: it cannot be loaded, or could not a moment ago. The log says why.
        """
        if name not in self._held:
            if time.monotonic() - self._failed_at.get(name, -RETRY_S) < RETRY_S:
                raise ModelUnavailable(f"Model {name!r} could not be loaded just now; it is tried again in a minute.")
            try:
                self.on_load(True)
                if not self._load(name, in_use):
                    return False
            except Exception as error:
                self._waiting = None
                self._failed_at[name] = time.monotonic()
                log.error("model %s cannot be loaded: %s", name, error, exc_info=error)
                raise ModelUnavailable(f"Model {name!r} cannot be loaded; the worker's log says why.") from error
            finally:
                self.on_load(False)
        self._uses += 1
        self._held[name].used = self._uses
        return True

    def _load(self, name: str, in_use: Collection[str]) -> bool:
        waiting, model = self._waiting or (name, None)
        if waiting != name or model is None:
            self._waiting = None  # one at a time: it takes main memory
            model = self._read(name, self.entries[name])
            self._waiting = name, model
        if 0 < self._budget_bytes < model.size_bytes:
            raise BadModel(f"Model {name!r} has {model.size_bytes} bytes of weights; {self._budget_bytes} are allowed.")
        going = to_evict(self._held, model.size_bytes, self._budget_bytes, self._pinned | set(in_use))
        if going is None:
            return False
        for name_going in going:
            self._evict(name_going)
        self._waiting = None
        placed, entry = self._place(model, in_use), self.entries[name]
        self._held[name] = Held(model.size_bytes, self._uses)
        log.info("model %s loaded: %d bytes", name, model.size_bytes)
        if isinstance(entry, SegmenterEntry):
            self.segmenters[name] = cast(ClipSeg, placed)
            return True
        self._families[name] = family = cast(Family, placed)
        if self._measure and name not in self.speeds:
            self.speeds[name] = self._measure(family, entry)
        return True

    def _place(self, model: ReadModel, in_use: Collection[str]) -> Placed:
        """Where the device itself says that it is full, idle models go one by one."""
        while True:
            try:
                return model.place()
            except DeviceFull as error:
                idle = self._held.keys() - self._pinned - set(in_use)
                if not idle:
                    raise BadModel("The device has no room for it beside the models in use.") from error
                self._evict(min(idle, key=lambda name: self._held[name].used))

    def _evict(self, name: str) -> None:
        del self._held[name]
        self._families.pop(name, None)
        self.segmenters.pop(name, None)
        log.info("model %s evicted", name)
