"""What becomes of a device's errors: work that finds no room is made smaller, a dead device ends the process."""

import traceback
from collections.abc import Iterator
from typing import TypeVar

import torch

LOST_EXIT = 70
"""Exit status of a worker whose device is dead, as of one whose device hangs."""

NO_ROOM = (
    "out of memory",  # CUDA's own, raised outside of torch's allocator
    "ALLOC_FAILED",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED
    "ALLOCATION_FAILED",  # CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "CUBLAS_STATUS_NOT_INITIALIZED",  # cublasCreate found no memory for its workspace
)
"""In messages of errors that say that the device has no memory left, beside torch.OutOfMemoryError."""

AnyError = TypeVar("AnyError", bound=BaseException)


class DeviceLost(SystemExit):
    """The device is dead for this process: an illegal access, an uncorrectable memory error, a failed device assert.

    Every later call of it fails too, so no ``except Exception`` may hold this up. RQ's loop lets a SystemExit pass.
    """

    def __init__(self) -> None:
        super().__init__(LOST_EXIT)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether smaller work might fit: the allocator's error, CUDA's, or that of cuDNN or cuBLAS."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_ROOM)


def raise_if_lost(error: BaseException) -> None:
    """Raise DeviceLost if ``error``, or what led to it, is a dead device's.

    A library's own error (cuDNN, cuBLAS) can be the first sign of one. So CUDA is asked once more, which waits for it.
    """
    for cause in _chain(error):
        if isinstance(cause, torch.AcceleratorError) and not is_out_of_memory(cause):
            raise DeviceLost from error
    if isinstance(error, RuntimeError) and torch.cuda.is_initialized() and not is_out_of_memory(error):
        try:
            torch.cuda.synchronize()
        except torch.AcceleratorError as dead:
            raise DeviceLost from dead


def released(error: AnyError) -> AnyError:
    """The same error, to be kept: the frames of its traceback no longer hold what was computed in them.

    The traceback itself stays, for the log.
    """
    for cause in _chain(error):
        traceback.clear_frames(cause.__traceback__)
    return error


def release_cache() -> None:
    """Give the memory that torch's allocator keeps, but does not use, back to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that led to it."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__
