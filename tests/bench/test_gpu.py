"""The measurement of a machine, in small: its shapes, its arithmetic, and a whole run on the pocket model."""

import json
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from bench.baselines.pipeline import Pipeline
from bench.gpu.agreement import agreements
from bench.gpu.budget import Budget
from bench.gpu.in_process import running_engine
from bench.gpu.loads import Loads, Plan
from bench.gpu.models import Place, open_shape
from bench.gpu.report import keep, markdown
from bench.gpu.results import Results
from bench.gpu.run import Scale, run
from bench.gpu.shapes import CLIP_L, SD15, SDXL, VAE, Shape, build
from bench.gpu.steps import PARTS, Measured, StepTiming, forward_tflop, ideal_images_per_s
from bench.served_model import ServedModel
from bench.throughput.clients import Limits, closed
from bench.throughput.sides import Side
from bench.throughput.workload import Case, full, png
from jobs.catalog import ModelEntry
from tests.bench.naive_server import naive_server

CPU = torch.device("cpu")
SMALL_VAE = {**VAE, "block_out_channels": [8, 8, 16, 16], "norm_num_groups": 4, "scaling_factor": 0.18215}
SMALL_UNET = {
    "sample_size": 8,
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 8,
}
TOLD_SIZES = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}
SMALL_TEXT = {
    **CLIP_L,
    "hidden_size": 32,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 32,
    "vocab_size": 256,
}
TINY_SD = Shape("tiny-sd", 64, {**SMALL_UNET, "cross_attention_dim": 32}, SMALL_VAE, SMALL_TEXT, "ddim")
TINY_SDXL = Shape(
    "tiny-sdxl", 64, {**SMALL_UNET, **TOLD_SIZES, "cross_attention_dim": 64}, SMALL_VAE, SMALL_TEXT, "euler", SMALL_TEXT
)


@pytest.mark.parametrize(("shape", "tflop"), [(SD15, 0.803), (SDXL, 6.76)], ids=["sd15", "sdxl"])
def test_the_shapes_cost_what_the_published_models_cost(shape: Shape, tflop: float) -> None:
    pipeline = build(shape, torch.device("meta"), torch.bfloat16)
    model = Measured(shape.name, pipeline, torch.device("meta"), torch.bfloat16)
    assert forward_tflop(model, "step", shape.size_px) == pytest.approx(tflop, rel=2e-3)
    served = ServedModel("m", Path(), shape.family, shape.size_px, shape.scheduler, 7.5)
    assert ModelEntry.model_validate(served.entry()).family == shape.family


@pytest.mark.parametrize("shape", [TINY_SD, TINY_SDXL], ids=["sd", "sdxl"])
def test_engine_and_pipeline_paint_the_same_with_random_weights(shape: Shape, tmp_path: Path) -> None:
    _, served = open_shape(shape, Place(CPU, torch.float32, tmp_path))
    cases = full(2, 3, shape.size_px)
    with running_engine(served) as (ours,), naive_server(Pipeline(served)) as naive:
        found = agreements(shape.name, [ours, naive], cases)
        turn = closed(ours, cases, 3, Limits(seconds=0, requests=1))
    among, _, side_by_side, other_seed = found
    assert among.most <= 1 and side_by_side.most <= 1
    assert other_seed.psnr is not None and other_seed.psnr < 25, "a picture that ignores the noise proves nothing"
    assert turn.errors == [] and turn.changed == [0.0] * 3


def test_a_run_on_the_pocket_model_writes_figures_table_and_plot(tmp_path: Path) -> None:
    scale = Scale(("pocket",), (64,), (1, 2), (), turn_s=0, rounds=1, steps=2, sides="", matrix_sides=(128,))
    run(scale, tmp_path, tmp_path, seconds=300, began=time.monotonic())
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [rate["dtype"] for rate in found["rates"]] == ["float32", "bfloat16"]
    steps = [cell for cell in found["cells"] if cell["part"] == "step"]
    assert [cell["rows"] for cell in steps] == [1, 2]
    for cell in found["cells"]:
        assert cell["share"] == pytest.approx(cell["tflop"] / cell["ms"] * 1000 / found["rates"][0]["tflops"])
    assert found["left_out"] == [] and found["ideals"] == {}, "no ideal without the model's own size"
    assert "| pocket | step | 64 |" in (tmp_path / "gpu.md").read_text()
    assert (tmp_path / "gpu.png").stat().st_size > 10_000


def test_loads_go_round_the_sides_and_are_left_out_when_the_time_is_up(tmp_path: Path) -> None:
    results = Results(tmp_path, "a machine", "cpu", "float32")
    plan = Plan(steps=1, clients=(1, 2), seconds=0, rounds=1)
    cases, sides = full(1, 2, 64), [Counting("a"), Counting("b")]
    Loads(ServedModel(size_px=64), sides, plan, cases, results, Budget(60)).run()
    loads = {
        cell.load: {name: figures.images for name, figures in cell.sides.items()} for cell in results.loads["pocket"]
    }
    assert [*loads.values()] == [{"a": 1, "b": 1}, {"a": 2, "b": 2}, {"a": 6, "b": 6}]
    assert [*loads][2].endswith("/s Poisson")
    results.sides["pocket"] = {side.name: side.label for side in sides}
    assert "| 64 px | 2 clients | 2, 2 | 0, 0 |" in markdown(results)
    keep(results, tmp_path / "kept.json")
    assert [file.name for file in tmp_path.glob("kept*")] == ["kept-pocket.json"]

    late = Results(tmp_path, "a machine", "cpu", "float32")
    Loads(ServedModel(size_px=64), sides, plan, cases, late, Budget(-1)).run()
    assert [left.why for left in late.left_out] == ["no time left"] * 2 and not late.loads


def test_what_fails_is_written_down_and_the_rest_goes_on(tmp_path: Path) -> None:
    results = Results(tmp_path, "a machine", "cpu", "float32")

    def divide() -> None:
        _ = 1 // 0

    results.section("a section", divide)
    assert json.loads(results.file.read_text())["left_out"] == [
        {"what": "a section", "why": "ZeroDivisionError: integer division or modulo by zero", "failed": True}
    ]
    assert "failed: ZeroDivisionError" in markdown(results)


def test_an_ideal_image_is_its_steps_an_encoding_and_a_decoding() -> None:
    cells = [StepTiming("m", part, 512, 2, 2 * tflop, 1, 1, 1) for part, tflop in zip(PARTS, (0.5, 3, 2), strict=True)]
    assert ideal_images_per_s(cells, 100, "m", 512, calls=40) == 100 / (40 * 0.5 + 3 + 2)
    assert ideal_images_per_s(cells[:1], 100, "m", 512, calls=40) is None


class Counting(Side):
    """Answers at once, with the picture inverted inside the mask."""

    label = "a server"

    def __init__(self, name: str) -> None:
        super().__init__("")
        self.name = name

    async def ask(self, client: httpx.AsyncClient, case: Case) -> bytes:
        return png(Image.fromarray(np.where(case.hole[..., None], 255 - case.pixels, case.pixels)))
