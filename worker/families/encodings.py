"""What a model's encoders made of prompts and pictures, kept for requests that bring the same ones again."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from cachetools import LRUCache

T = TypeVar("T")


class Encodings:
    """The encodings of one model, on its device; they go with it.

    Args:
        budget_bytes: bytes of tensors above which the least recently used go; 0 keeps nothing.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._kept: LRUCache[Hashable, Any] = LRUCache(budget_bytes, getsizeof=storage_bytes)
        self._shared: dict[Hashable, Any] | None = None
        """What was made inside ``sharing``."""
        self._finite = set[Hashable]()
        """Keys of what is shared and known to be finite."""

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size_bytes(self) -> int:
        return int(self._kept.currsize)

    def clear(self) -> None:
        """Drop what is kept."""
        self._kept.clear()

    def recall(self, key: Hashable, encode: Callable[[], T]) -> T:
        """What ``encode`` returned for this key, or returns now: nested mappings and tuples of tensors.

        Nobody may change the tensors in place. ``key`` holds all that they depend on. What is not finite is not kept:
        the next request makes it anew, and has it whole if an overflow was not the picture's own.
        """
        if self._shared and key in self._shared and self._is_finite(key, self._shared[key]):
            recalled = self._shared[key] = self._shared.pop(key)  # it is now the one used last
            return cast("T", recalled)
        if key in self._kept:
            return cast("T", self._kept[key])
        made = encode()
        if self._shared is not None:
            self._shared[key] = made
        else:
            self._keep({key: made})
        return made

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Inside, nothing goes: what one request needs several times is encoded once, whatever the budget."""
        made = self._shared = {}
        try:
            yield
        finally:
            self._shared = None
            self._finite.clear()
        self._keep(made)

    def _is_finite(self, key: Hashable, made: object) -> bool:
        """Of what is shared: looked at when it is used again, and then not once more."""
        if key not in self._finite and _finite([made])[0]:
            self._finite.add(key)
        return key in self._finite

    def _keep(self, made: Mapping[Hashable, object]) -> None:
        """Of what was made, that which is finite. Waits for the device once, so that encoding has its own time."""
        for (key, its), keeps in zip(made.items(), _finite(made.values()), strict=True):
            if keeps and storage_bytes(its) <= self._kept.maxsize:  # a larger one would push out all others
                self._kept[key] = its


def storage_bytes(encoded: object) -> int:
    """Bytes of memory that tensors hold, each piece once: of a view, all that it keeps from being freed."""
    storages = [tensor.untyped_storage() for tensor in _tensors(encoded)]
    return sum({piece.data_ptr(): piece.nbytes() for piece in storages}.values())


def _finite(made: Iterable[object]) -> list[bool]:
    """Whether each is; read from the device at once."""
    flags = [torch.stack([tensor.isfinite().all() for tensor in _tensors(its)]).all() for its in made]
    return [bool(flag) for flag in torch.stack(flags).tolist()] if flags else []


def _tensors(encoded: object) -> Iterable[torch.Tensor]:
    if isinstance(encoded, torch.Tensor):
        yield encoded
    elif isinstance(encoded, Mapping):
        yield from _tensors(tuple(encoded.values()))
    elif isinstance(encoded, tuple):
        for part in encoded:
            yield from _tensors(part)
