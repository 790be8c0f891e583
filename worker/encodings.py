"""What a model's encoders made of prompts and pictures, kept for requests that bring the same ones again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

DIGEST_BYTES = 16

T = TypeVar("T")


class Encodings:
    """The encodings of one model, on its device; they go with it.

    Args:
        budget_bytes: bytes of tensors above which the least recently used go; 0 keeps nothing.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.size_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._sharing = False

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, key: Hashable, encode: Callable[[], T]) -> T:
        """What ``encode`` returned for this key, or returns now: nested mappings and tuples of tensors.

        Nobody may change the tensors in place. ``key`` holds all that they depend on. What is not finite is not kept:
        the next request makes it anew, and has it whole if an overflow was not the picture's own.
        """
        if key in self._kept:
            self._kept.move_to_end(key)
            return cast("T", self._kept[key][0])
        made = encode()
        if not all(tensor.isfinite().all() for tensor in _tensors(made)):
            return made
        self._kept[key] = made, storage_bytes(made)
        self.size_bytes += self._kept[key][1]
        if not self._sharing:
            self._make_room()
        return made

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Inside, nothing goes: what one request needs several times is encoded once, whatever the budget."""
        self._sharing = True
        try:
            yield
        finally:
            self._sharing = False
            self._make_room()

    def _make_room(self) -> None:
        oversized = [key for key, (_, size_bytes) in self._kept.items() if size_bytes > self.budget_bytes]
        for key in [*oversized, *self._kept]:
            if self.size_bytes <= self.budget_bytes:
                return
            if key in self._kept:
                self.size_bytes -= self._kept.pop(key)[1]


def storage_bytes(encoded: object) -> int:
    """Bytes of memory that tensors hold, each piece once: of a view, all that it keeps from being freed."""
    storages = [tensor.untyped_storage() for tensor in _tensors(encoded)]
    return sum({piece.data_ptr(): piece.nbytes() for piece in storages}.values())


def _tensors(encoded: object) -> Iterable[torch.Tensor]:
    if isinstance(encoded, torch.Tensor):
        yield encoded
    elif isinstance(encoded, Mapping):
        yield from _tensors(tuple(encoded.values()))
    elif isinstance(encoded, tuple):
        for part in encoded:
            yield from _tensors(part)


def digest(pixels: NDArray[Any]) -> bytes:
    """Of an array's shape, type and content."""
    hashed = blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=DIGEST_BYTES)
    hashed.update(np.ascontiguousarray(pixels).data)
    return hashed.digest()
