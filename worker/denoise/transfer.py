"""Copies between main memory and the device that nobody waits for."""

from collections.abc import Sequence

import torch


def to_device(host: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy behind the work that is queued on the device: from memory that is not pinned, CUDA waits for that work."""
    return host if device.type == "cpu" else host.pin_memory().to(device, non_blocking=True)


def columns(rows: Sequence[Sequence[float]], device: torch.device) -> tuple[torch.Tensor, ...]:
    """Numbers of each image of a batch, in one copy: each column as (rows, 1, 1, 1), float32."""
    return to_device(torch.tensor(rows, dtype=torch.float32), device)[..., None, None, None].unbind(1)
