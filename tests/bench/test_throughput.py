"""The load bench: its arithmetic, its clients against a server that counts, and the naive server's picture."""

import asyncio
import io
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pytest
from PIL import Image

from bench.baselines.pipeline import Pipeline
from bench.throughput.clients import Limits, Turn, closed, poisson
from bench.throughput.report import Cell, figures, table
from bench.throughput.sides import Naive, Side
from bench.throughput.workload import Case, full, outside_changed, png, realistic
from tests.bench.naive_server import naive_server


class Echo(Side):
    """Answers with a picture inverted inside the mask, after a while; knows how many asked at once."""

    name, label = "e", "echo"

    def __init__(self) -> None:
        super().__init__("")
        self.now = self.most = self.asked = 0

    async def ask(self, client: httpx.AsyncClient, case: Case) -> bytes:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1
        return png(Image.fromarray(np.where(case.hole[..., None], 255 - case.pixels, case.pixels)))


def test_a_closed_loop_keeps_as_many_requests_under_way_as_it_has_clients() -> None:
    side = Echo()
    turn = closed(side, full(1), 3, Limits(seconds=30, requests=4))
    assert (side.most, side.asked, len(turn.latencies_s), turn.errors) == (3, 12, 12, [])
    assert turn.changed == [0.0] * 12


def test_every_client_sends_one_request_even_when_the_time_is_up() -> None:
    assert len(closed(Echo(), full(1), 5, Limits(seconds=0, requests=9)).latencies_s) == 5


def test_an_open_loop_does_not_wait_for_answers() -> None:
    side = Echo()
    assert len(poisson(side, full(1), rate=2000, requests=10).latencies_s) == 10
    assert side.most > 1


def test_an_unpainted_or_broken_answer_is_an_error() -> None:
    case = full(1)[1]
    with pytest.raises(AssertionError, match="nothing was repainted"):
        outside_changed(case, case.image)
    with pytest.raises(OSError, match="cannot identify"):
        outside_changed(case, b"not a picture")


def test_realistic_masks_are_small_and_photos_large() -> None:
    for case in realistic(1, 2):
        assert case.pixels.shape == (1024, 1024, 3)
        assert 64 * 64 * 0.7 < case.hole.sum() < 160 * 160


def test_figures_are_of_all_turns_together_and_ratios_of_a_over_the_others() -> None:
    ours = figures([Turn(1.0, [0.1] * 10), Turn(3.0, [0.3] * 10, changed=[0.0])])
    theirs = figures([Turn(20.0, [1.0] * 20, changed=[0.5], errors=["late"])])
    assert (ours.images_per_s, theirs.outside, theirs.errors) == (5.0, 50.0, 1)
    assert ours.p50 == pytest.approx(200)
    record = table([Cell("full", "8 clients", 20, {"a": ours, "b": theirs}), Cell("full", "Poisson", 20, {"a": ours})])
    both, alone = (dict(zip(record.columns[4:], row[4:], strict=True)) for row in record.rows)
    assert (both["images/s a, b"], alone["images/s a, b"]) == ("5.000, 1.000", "5.000, -")
    ratios = [record.columns.index(column) + 1 for column in ("images/s a, b", "p50 ms a, b")]
    assert [[row[index] for index in ratios] for row in record.rows] == [["5.00x", "0.20x"], ["-", "-"]]
    with pytest.raises(ValueError, match="refused"):
        figures([Turn(1.0, errors=["refused"])])


@pytest.fixture(scope="module")
def naive() -> Iterator[Naive]:
    with naive_server(Pipeline()) as side:
        yield side


def test_the_naive_server_repaints_and_changes_what_it_should_keep(naive: Naive) -> None:
    turn = closed(naive, [replace(case, steps=1) for case in full(1, 2)], 2, Limits(seconds=0, requests=1))
    assert turn.errors == []
    assert len(turn.latencies_s) == 2 and min(turn.changed) > 0.5


def test_a_batch_paints_what_each_would_get_alone() -> None:
    painter, (first, second) = Pipeline(), full(2, 2)
    images, masks = ([Image.open(io.BytesIO(data)) for data in files] for files in _files(first, second))
    together = painter.paint(["sand", "sky"], images, masks, [1, 2], 2)
    alone = painter.paint(["sky"], images[1:], masks[1:], [2], 2)
    difference = np.abs(np.asarray(together[1]).astype(int) - np.asarray(alone[0]).astype(int))
    assert difference.max() <= 1


def _files(*cases: Case) -> tuple[list[bytes], list[bytes]]:
    return [case.image for case in cases], [case.mask for case in cases]
