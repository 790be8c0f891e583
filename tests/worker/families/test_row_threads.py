"""Rows of a batch on threads of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from worker.families.row_threads import side_by_side


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Network:
    """Doubles numbers; knows which thread was told what, and how many threads torch had there."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, list[float]]] = []

    def __call__(self, rows: Sequence[float]) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        self.calls.append((threading.get_ident(), torch.get_num_threads(), list(rows)))
        return torch.tensor(rows) * 2


@torch.inference_mode()
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_every_row_is_computed_once_and_stands_where_it_stood(threads: int, rows: int) -> None:
    network = Network()
    output = side_by_side(network, [float(row) for row in range(rows)])
    assert output.tolist() == [2.0 * row for row in range(rows)]
    parts = [part for _, _, part in network.calls]
    assert len(parts) == min(rows, threads)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@torch.inference_mode()
def test_the_parts_share_the_threads_of_torch_and_leave_it_its_own(threads: int) -> None:
    network = Network()
    side_by_side(network, [1.0, 2.0])
    assert {had for _, had, _ in network.calls} == {threads // min(2, threads)}
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as newcomer:
        assert newcomer.submit(torch.get_num_threads).result() == threads


@torch.inference_mode()
def test_what_a_part_raises_is_raised() -> None:
    def network(rows: Sequence[float]) -> torch.Tensor:
        raise MemoryError(f"no room for {rows}")

    with pytest.raises(MemoryError, match="no room"):
        side_by_side(network, [1.0, 2.0, 3.0])
