"""What happened on a pretend device (``tests.worker.pretend_device``), call by call of the code that is watched."""

import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

WORKER = Path(__file__).parents[2] / "worker"


@dataclass
class Call:
    """What happened in one call of the code that is watched."""

    name: str
    waits: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    kernels_outside: int = 0
    kernels_inside: int = 0


class Log:
    """Of the pretend device. Other threads wait by themselves: theirs are not counted."""

    def __init__(self) -> None:
        self.depth = 0  # of calls of the network
        self.given: set[tuple[str, str]] = set()  # of the network: name of an argument, its dtype
        self.pinned: list[torch.Tensor] = []  # held, so that no other tensor takes their places
        self.thread = threading.get_ident()
        self.calls: list[Call] = []
        with self.call("load"):
            pass

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        self.calls.append(Call(name))
        try:
            yield
        finally:
            self.calls.append(Call("between"))

    def mismatch(self, what: str) -> None:
        self.calls[-1].mismatches.append(f"{what} at {_place()}")

    def wait(self, what: str) -> None:
        if threading.get_ident() == self.thread:
            self.calls[-1].waits.append(f"{what} at {_place()}")

    def kernel(self) -> None:
        if self.depth:
            self.calls[-1].kernels_inside += 1
        else:
            self.calls[-1].kernels_outside += 1

    def watch(self, network: torch.nn.Module) -> None:
        """Know when a network, or a part of it, runs, and with what."""

        def begin(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            self.depth += 1
            if module is network:
                named = {**dict(enumerate(args)), **kwargs}
                tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
                self.given |= {(str(name), str(value.dtype)[6:]) for name, value in tensors.items()}

        def end(*_: Any) -> None:
            self.depth -= 1

        for part in network.modules():
            part.register_forward_pre_hook(begin, with_kwargs=True)
            part.register_forward_hook(end, always_call=True)

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        place = tensor.untyped_storage().data_ptr()
        return any(place == known.untyped_storage().data_ptr() for known in self.pinned)


def _place() -> str:
    """The innermost line of the worker, and that of a library below it."""
    through = ""
    for frame, line in traceback.walk_stack(sys._getframe(2)):
        file = frame.f_code.co_filename
        if Path(file).is_relative_to(WORKER):
            return f"{Path(file).relative_to(WORKER.parent)}:{line}{through}"
        if not through and "site-packages" in file and "/torch/" not in file:
            through = f" <- {file.split('site-packages/')[1]}:{line}"
    return f"?{through}"
