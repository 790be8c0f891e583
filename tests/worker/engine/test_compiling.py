"""Compiled networks and decoders: most by graphs that are run as they were traced, a few by torch's own compiler.

That one runs in processes of their own, since ``serve`` is for a process's whole life.
"""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.errors import BadModel
from jobs.schema import InpaintParameters
from tests.programs import program
from tests.worker import tiny
from tests.worker.graphs import GRAPHS, compile_model, served
from tests.worker.runs import canvas, difference, no_clock, parameters, run_alone
from tests.worker.slow_device import Clock
from worker.denoise.state import DenoiseState
from worker.engine import profile
from worker.engine.compiling import Compiler
from worker.engine.engine import Engine
from worker.families import qwen_image
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.sd import StableDiffusion
from worker.pixels.canvas import Canvas
from worker.settings import WorkerSettings

ROUNDING = 1e-6
EACH_FAMILY_AND_MODE = [
    ("sd", "concat"),
    ("sdxl", "recompose"),
    ("sd3", "recompose"),
    ("flux", "concat"),
    ("qwen-image", "recompose"),
]
LONGEST = 200
"""Tokens of a compiled prompt of Qwen-Image here: the tiny tokenizer knows letters only."""


pytestmark = pytest.mark.usefixtures("batches_whole")


@pytest.fixture(autouse=True)
def _every_doubling_brings_a_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass takes as long as any other."""
    monkeypatch.setattr(profile, "time", Clock())
    monkeypatch.setattr(qwen_image, "COMPILED_TOKENS", LONGEST)


def forget_graphs() -> None:
    compiled_once.cache_clear()
    torch._dynamo.reset()


@pytest.fixture(scope="module", autouse=True)
def _no_graphs_left() -> Iterator[None]:
    yield
    forget_graphs()


@pytest.fixture
def no_graphs() -> None:
    """Models of the same layers share graphs: none is there before the test."""
    forget_graphs()


def painting_on_fill() -> LatentDiffusion:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    pipeline.unet.register_to_config(paints_on_fill=True)
    return StableDiffusion("tiny", pipeline)


@cache
def compiled_once(family: str, mode: str, max_rows: int = 1) -> tuple[LatentDiffusion, int]:
    """A model for all tests of this module, which change nothing of it, and how many graphs it took."""
    model = tiny.model(family, mode)
    return model, compile_model(model, max_rows)


def asked(family: str, **fields: Any) -> InpaintParameters:
    return parameters(next(iter(tiny.FAMILIES[family].schedulers)), 1.0, **fields)


def cut(pixels: Canvas, height: int, width: int) -> Canvas:
    return Canvas(pixels.image[:height, :width].copy(), pixels.mask[:height, :width].copy())


def prepared(model: LatentDiffusion, n: int, **fields: Any) -> list[DenoiseState]:
    return model.prepare(canvas(), asked(model.family, n=n, **fields), no_clock)


@pytest.mark.parametrize(("family", "mode"), EACH_FAMILY_AND_MODE)
def test_a_bucket_is_one_graph_that_paints_the_same(family: str, mode: str) -> None:
    model, graphs = compiled_once(family, mode)
    assert graphs == 3
    _paints_the_same(model, tiny.shared_model(family, mode))


def test_models_of_the_same_layers_share_graphs_and_paint_their_own() -> None:
    compiled_once("sd", "concat")
    model, plain = tiny.model("sd", "concat"), tiny.model("sd", "concat")
    with torch.no_grad():
        for weight in (*model.network.parameters(), *plain.network.parameters()):
            weight.mul_(1.1)
    assert compile_model(model) == 0
    _paints_the_same(model, plain)


def _paints_the_same(model: LatentDiffusion, plain: LatentDiffusion) -> None:
    before, family = GRAPHS.made, model.family
    assert (model.compiled.rows, model.compiled.decoded) == ({(8, 8): [1, 2]}, {(8, 8)})
    with served():
        for wanted in (asked(family), asked(family, n=3, guidance=1.0)):
            GRAPHS.rows.clear()
            states, theirs = run_alone(model, wanted, canvas()), run_alone(plain, wanted, canvas())
            assert set(GRAPHS.rows) <= {1, 2} and len(GRAPHS.rows) >= 6
            assert max(difference(a.latents, b.latents) for a, b in zip(states, theirs, strict=True)) < ROUNDING
            GRAPHS.rows.clear()
            pixels = model.finish(states).astype(int)
            assert GRAPHS.rows == [1] * len(states)
            assert abs(pixels - plain.finish(theirs)).max() <= 1
    assert GRAPHS.made == before


def test_rows_that_fill_a_compiled_call_change_no_picture_by_a_bit() -> None:
    (model, _), plain = compiled_once("sd3", "concat", max_rows=2), tiny.shared_model("sd3", "concat")
    first, second, third = prepared(model, n=3, guidance=1.0)
    guided = prepared(model, n=3)
    with served():
        GRAPHS.rows.clear()
        padded = model.predict([first, second, third])
        assert GRAPHS.rows == [4]
        more = model.predict(guided)  # six rows, more than any that is compiled
        assert GRAPHS.rows == [4]
    assert torch.equal(padded, plain.predict([first, second, third, first])[:3])
    assert torch.equal(more, plain.predict(guided))


def test_kept_features_and_tiles_are_not_compiled() -> None:
    (model, _), plain = compiled_once("sd", "concat"), tiny.shared_model("sd", "concat")
    wanted = asked("sd").model_copy(update={"cache_interval": 2})
    with served():
        GRAPHS.rows.clear()
        (state,), (same,) = (run_alone(its, wanted, canvas()) for its in (model, plain))
        assert torch.equal(state.latents, same.latents)
        with model.tiled():
            model.finish([state])
        assert GRAPHS.rows == []
        model.finish([state])
        assert GRAPHS.rows == [1]


@pytest.mark.parametrize(("family", "mode"), [("sd", "concat"), ("qwen-image", "recompose")])
def test_a_longer_prompt_than_compiled_calls_take_is_not_compiled(family: str, mode: str) -> None:
    (model, _), plain = compiled_once(family, mode), tiny.shared_model(family, mode)
    (short,) = prepared(model, n=1, guidance=1.0)
    wanted = asked(family, guidance=1.0).model_copy(update={"prompt": "a very long cat " * 20})
    (long,) = model.prepare(canvas(), wanted, no_clock)
    mixed: list[Any] = [([short, long], [])] if short.key == long.key else []
    with served():
        for states, rows in [([short], [1]), ([long], []), ([long, long], []), *mixed]:
            GRAPHS.rows.clear()
            assert difference(model.predict(states), plain.predict(states)) < ROUNDING
            assert GRAPHS.rows == rows


@pytest.mark.parametrize(("guided", "shallow", "images"), [(False, False, 8), (True, False, 4), (False, True, 11)])
def test_a_pass_has_no_more_images_than_fill_a_compiled_call(guided: bool, shallow: bool, images: int) -> None:
    model = tiny.model("sd", "concat")
    model.compiled.rows[8, 8] = [1, 2, 4, 8]
    engine = Engine({"tiny": model}, max_rows=11)
    key = prepared(model, n=1, guidance=4.0 if guided else 1.0)[0].key._replace(shallow=shallow)
    assert engine.limit(key) == images
    assert engine.limit(key._replace(latent_shape=(1, 4, 8, 9))) == 11
    model.compiled.rows[8, 8] = [1]
    assert engine.limit(key) == (11 if guided or shallow else 1)


@pytest.mark.usefixtures("no_graphs")
def test_the_graphs_are_those_of_the_buckets_whatever_is_asked() -> None:
    model = tiny.model("sd3", "recompose")
    graphs = compile_model(model, max_rows=4, max_size_px=128)
    before = GRAPHS.made
    assert model.compiled.rows == {(8, 8): [1, 2, 4, 8], (16, 16): [1, 2, 4, 8]}
    assert graphs == 2 * 4 + 2
    small = canvas()
    large = Canvas(small.image.repeat(2, 0).repeat(2, 1), small.mask.repeat(2, 0).repeat(2, 1))
    engine, rng = Engine({"tiny": model}, max_rows=4), np.random.default_rng(0)
    with served():
        for turn in range(18):
            pixels = (small, large, cut(large, 64, 96))[turn % 3]
            wanted = asked("sd3", seed=turn, n=int(rng.integers(1, 4)), guidance=float(rng.choice([1.0, 4.0])))
            if len(engine.live) < 18:
                engine.join(model.prepare(pixels, wanted, no_clock))
            GRAPHS.rows.clear()
            batch = engine.step()
            rows = len(batch) * (1 + batch[0].key.guided)
            smallest = min(number for number in model.compiled.rows[8, 8] if number >= rows)
            assert GRAPHS.rows == ([smallest] if batch[0].key.latent_shape[3] != 12 else [])
            assert not any(state.error for state in batch)
    assert GRAPHS.made == before


@pytest.mark.usefixtures("no_graphs")
def test_a_network_of_more_than_one_graph_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.model("sd3", "recompose")
    model.network.norm_out.register_forward_pre_hook(lambda *_: torch._dynamo.graph_break())
    compile_model(model)
    assert "model tiny is not compiled, its network: " in caplog.text
    assert (model.compiled.forward, model.compiled.rows, model.compiled.decoded) == (None, {}, {(8, 8)})
    with served():
        (state,) = run_alone(model, asked("sd3"), canvas())
    (plain,) = run_alone(tiny.shared_model("sd3", "recompose"), asked("sd3"), canvas())
    assert torch.equal(state.latents, plain.latents)
    assert GRAPHS.rows == []


@pytest.mark.usefixtures("no_graphs")
def test_a_graph_that_would_not_be_used_again_is_not_served(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.model("sd3", "recompose")
    model.network.calls = 0

    def count(network: Any, _: Any) -> None:
        network.calls += 1

    model.network.register_forward_pre_hook(count)
    compile_model(model)
    assert "model tiny is not compiled, its network: " in caplog.text
    assert model.compiled.rows == {}


@pytest.mark.usefixtures("no_graphs")
def test_rows_without_room_are_left_out() -> None:
    def fill_up(rows: int) -> None:
        if rows > 2:
            raise torch.OutOfMemoryError("out of memory")

    model = tiny.model("sd3", "recompose")
    compile_model(model, max_rows=4, on_call=fill_up)
    assert (model.compiled.rows, model.compiled.decoded) == ({(8, 8): [1, 2]}, {(8, 8)})


@pytest.mark.usefixtures("no_graphs")
def test_rows_that_bring_no_gain_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(profile, "time", clock)
    model = tiny.model("sd3", "recompose")
    compile_model(model, max_rows=16, on_call=clock.sleep)
    assert model.compiled.rows == {(8, 8): [1, 2, 4]}


@pytest.mark.usefixtures("no_graphs")
def test_a_model_that_is_evicted_leaves_nothing_behind() -> None:
    model = tiny.model("sd3", "recompose")
    compile_model(model)
    network = weakref.ref(model.network)
    del model
    gc.collect()
    assert network() is None


@pytest.mark.usefixtures("no_graphs")
def test_a_network_that_paints_on_a_fill_is_one_graph_a_bucket_too() -> None:
    model = painting_on_fill()
    assert compile_model(model) == 3
    _paints_the_same(model, painting_on_fill())


SERVED = """
import torch
from torch._dynamo.utils import counters
from tests.worker import tiny
from tests.worker.graphs import entry_of
from tests.worker.runs import canvas
from tests.worker.runs import difference
from tests.worker.runs import parameters
from tests.worker.runs import run_alone
from worker.engine.compiling import Compiler
from worker.settings import WorkerSettings

torch.set_num_threads(1)
wishes = [parameters("flow_euler", 1.0, guidance=1.0), parameters("flow_euler", 1.0, n=2, guidance=1.0)]
model, other = tiny.model("sd3", "recompose"), tiny.model("sd3", "recompose")
for each in (model, other):
    each.vae.enable_tiling()  # so the decoder is not compiled, which takes long
plain = [run_alone(other, wanted, canvas()) for wanted in wishes]
compiler = Compiler(WorkerSettings(), lambda family, entry: [])
compiler.max_rows = 1
compiler(model, entry_of("sd3"))
warm = counters["stats"]["unique_graphs"]
compiler.serve()
compiled = [run_alone(model, wanted, canvas()) for wanted in wishes]
pairs = [pair for states in zip(compiled, plain) for pair in zip(*states)]
print(model.compiled.rows, model.compiled.decoded, warm)
print(counters["stats"]["unique_graphs"] - warm, max(difference(a.latents, b.latents) for a, b in pairs))
late = tiny.model("sd3", "concat")
compiler(late, entry_of("sd3"))
run_alone(late, wishes[0], canvas())
print(counters["stats"]["unique_graphs"] - warm, late.compiled.rows)
"""


def run(script: str, cache: Path, **changed: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "OMP_NUM_THREADS": "1", **changed}
    shown = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    return shown


def test_a_worker_compiles_at_its_start_paints_the_same_and_never_compiles_again(tmp_path: Path) -> None:
    program("g++")  # torch compiles for a CPU with it
    first, second, third = run(SERVED, tmp_path).stdout.strip().splitlines()[-3:]
    assert first == "{(8, 8): [1]} set() 1"
    later, apart = second.split()
    assert (later, third) == ("0", "0 {}")
    assert 0 < float(apart) < 1e-4


NO_COMPILER = """
import torch
from functools import partial
from tests.worker import tiny
from tests.worker.graphs import entry_of
from tests.worker.runs import canvas
from tests.worker.runs import parameters
from tests.worker.runs import run_alone
from worker.engine.compiling import Compiler
from worker.engine.profile import profile
from worker.settings import WorkerSettings

torch.set_num_threads(1)
model = tiny.model("sd3", "recompose")
model.vae.enable_tiling()  # so the decoder is not compiled, which takes long
compiler = Compiler(WorkerSettings(), partial(profile, max_rows=2))
speeds = compiler(model, entry_of("sd3"))
compiler.serve()
print(len(speeds), run_alone(model, parameters("flow_euler", 1.0), canvas())[0].error, len(model.compiled.rows))
"""


def test_a_model_that_cannot_be_compiled_is_measured_and_served_all_the_same(tmp_path: Path) -> None:
    shown = run(NO_COMPILER, tmp_path, CXX="/no/compiler")
    assert "its network: " in shown.stderr
    assert shown.stdout.split() == ["1", "None", "0"]


def test_compiled_networks_and_adapters_are_not_served_together() -> None:
    with pytest.raises(BadModel, match="INFILL_COMPILE does not go with INFILL_LORA_DIR"):
        Compiler(WorkerSettings(lora_dir="/adapters"), lambda *_: [])
