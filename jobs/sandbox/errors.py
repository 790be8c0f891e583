"""The limits of a call, and what ends one without an answer. None of these holds text of the function's or a library's.

::

    SandboxError
    ├── Busy            no child was free in time; nothing was tried
    ├── Closed          the sandbox was closed before the call ended
    ├── LimitExceeded   the function broke a limit, and its child was killed; or the input is too large
    ├── ChildCrashed    the child died, or sent what is no reply
    └── FunctionFailed  the function raised something that it did not mean for callers
"""

from dataclasses import dataclass
from typing import Literal

Limit = Literal["cpu", "wall", "memory", "input", "output"]


@dataclass(frozen=True)
class Limits:
    """What one call may use.

    Args:
        cpu_s: processor time of the child, all its threads together.
        wall_s: from the request to the reply.
        memory_bytes: address space beyond what the child has when it is ready. Its input and output do not count.
        input_bytes: all input buffers together.
        output_bytes: all output buffers together.
    """

    cpu_s: float
    wall_s: float
    memory_bytes: int
    input_bytes: int
    output_bytes: int


class SandboxError(Exception):
    """Base of what ends a call without an answer. The texts are ours, for the log."""


class Busy(SandboxError):
    """No child was free within ``wait_s``. Nothing was tried."""


class Closed(SandboxError):
    """The sandbox was closed before the call ended."""


class LimitExceeded(SandboxError):
    """The function broke ``limit``, and its child was killed; or the buffers are larger than ``input_bytes``."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(f"the {limit} limit was exceeded")
        self.limit = limit


class ChildCrashed(SandboxError):
    """The child died, or sent what is no reply."""


class FunctionFailed(SandboxError):
    """The function raised an exception that is no InfillError. ``kind``: the name of its class, and no text of it."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the function raised {kind}")
        self.kind = kind
