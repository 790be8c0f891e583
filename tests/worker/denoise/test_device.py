"""A device's errors: which say that it has no room, which that it is dead; what is kept of them."""

import weakref

import pytest
import torch

from jobs.errors import BadLora, DeadlineExceeded
from worker.denoise.device import DeviceLost, is_out_of_memory, raise_if_lost, released

NO_ROOM = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
DEAD = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
]
OTHERS = [
    RuntimeError("The size of tensor a (4) must match the size of tensor b (9)"),
    ValueError("out of memory"),
    DeadlineExceeded("The job ran for more than its deadline of 1 s."),
]


@pytest.mark.parametrize("error", NO_ROOM, ids=str)
def test_the_lack_of_memory_of_every_library_is_one(error: Exception) -> None:
    assert is_out_of_memory(error)
    raise_if_lost(error)


@pytest.mark.parametrize("error", DEAD, ids=str)
def test_a_dead_device_ends_the_process_also_behind_another_error(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(DeviceLost) as lost:
        raise_if_lost(error)
    assert lost.value.code == 70
    behind = BadLora("The adapter cannot be loaded.")
    behind.__cause__ = error
    with pytest.raises(DeviceLost):
        raise_if_lost(behind)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_any_other_error_is_the_jobs_own(error: Exception) -> None:
    assert not is_out_of_memory(error)
    raise_if_lost(error)


def fails_with(made: list["weakref.ref[torch.Tensor]"], deeper: bool) -> None:
    activations = torch.zeros(3)
    made.append(weakref.ref(activations))
    try:
        if deeper:
            fails_with(made, deeper=False)
        raise ZeroDivisionError("while it holds its activations")
    except ZeroDivisionError as error:
        raise RuntimeError("and another one of it") from error


def test_a_kept_error_holds_nothing_of_what_was_computed_and_still_says_where() -> None:
    made: list[weakref.ref[torch.Tensor]] = []
    try:
        fails_with(made, deeper=True)
    except RuntimeError as error:
        kept = released(error)
    assert [ref() for ref in made] == [None, None]
    names = []
    trace = kept.__traceback__
    while trace:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-1] == "fails_with"
