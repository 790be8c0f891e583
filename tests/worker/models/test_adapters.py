"""Adapters in the running batch: as diffusers applies them, for their own request only, under a budget."""

import cProfile
import gc
import io
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.tuners_utils import BaseTunerLayer
from PIL import Image

from jobs.errors import BadLora
from jobs.loras import LoraFolder
from jobs.schema import JobReport
from tests.worker import loras, tiny
from tests.worker.lora_requests import begin, choices, engine_of, finish, job, latents
from tests.worker.runs import FAMILY_MODES, TOLERANCE, asked, canvas, difference
from tests.worker.tasks import task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.latent_diffusion import LatentDiffusion
from worker.models import peft_layers
from worker.models.adapters import Adapters


def tuned(model: LatentDiffusion) -> list[str]:
    """The layers that peft has wrapped."""
    parts = peft_layers.parts_of(model.pipeline).items()
    return [
        f"{part}.{name}"
        for part, network in parts
        for name, module in network.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]


@pytest.fixture
def model() -> LatentDiffusion:
    return tiny.model("sd", "concat")


@pytest.mark.filterwarnings(f"ignore:{peft_layers.SEVERAL}")
@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_every_family_applies_adapters_as_diffusers_does(name: str, mode: str, tmp_path: Path) -> None:
    model = tiny.model(name, mode)
    scheduler = next(iter(tiny.FAMILIES[name].schedulers))
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    oracle = tiny.pipeline(name, mode, scheduler)
    plain = asked(oracle, name, job(family=name), canvas(7))
    for lora in ("one", "two"):
        oracle.load_lora_weights(str(tmp_path), weight_name=f"{lora}.safetensors", adapter_name=lora)
    oracle.set_adapters(["one", "two"], [0.8, -0.5])
    changed = asked(oracle, name, job(family=name), canvas(7))

    engine = engine_of(model, tmp_path)
    ours = latents(engine, job(family=name), *choices(one=0.8, two=-0.5))
    assert difference(ours, changed) < TOLERANCE
    assert difference(changed, plain) > 0.01
    assert difference(latents(engine, job(family=name)), plain) < TOLERANCE


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_a_request_without_adapters_has_the_same_bytes_before_between_and_after(
    name: str, mode: str, tmp_path: Path
) -> None:
    model = tiny.model(name, mode)
    wanted = job(family=name)
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path)
    before = latents(engine, wanted)
    other = latents(engine, wanted, *choices(one=1.0))

    states = [begin(engine, wanted, *chosen) for chosen in ((), choices(one=1.0), choices(one=1.0, two=0.3))]
    sizes = []
    while engine.live:
        sizes.append(len(engine.step()))
    assert set(sizes) == {1}  # three sets of adapters, step by step in turn, on one network
    assert torch.equal(states[0].latents, before)
    assert torch.equal(states[1].latents, other)
    assert not torch.equal(states[2].latents, other)
    assert torch.equal(latents(engine, wanted), before)


def test_two_sets_in_turns_cost_a_few_calls_a_layer_and_walk_over_no_network(
    model: LatentDiffusion, tmp_path: Path
) -> None:
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path)
    sets = [engine.adapters.choose(choices(**{name: 1.0})) for name in ("one", "two")]
    for wanted in sets:
        engine.set_adapters(model, wanted)
    layers = len(peft_layers.tuned_layers(model.pipeline))
    watch = cProfile.Profile()
    watch.enable()
    for wanted in sets * 5:
        engine.set_adapters(model, wanted)
    watch.disable()
    calls = sum(entry.callcount for entry in watch.getstats())
    assert layers > 4 and calls < 10 * (6 * layers + 60)


SETS: tuple[dict[str, float], ...] = ({}, {"one": 1.0}, {"two": 0.5}, {"one": 0.3, "two": -1.0}, {"words": 1.0})


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, list[torch.Tensor]]:
    """An engine with room for little more than one adapter, and what each of SETS gives alone."""
    folder, model = tmp_path_factory.mktemp("loras"), tiny.model("sd", "concat")
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(folder / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    loras.save_diffusers(folder / "words.safetensors", loras.matrices(model.pipeline, only="text_encoder"))
    engine = Engine({"tiny": model}, 1, Adapters(LoraFolder(str(folder)), budget_bytes=50_000))
    return engine, [latents(engine, job(), *choices(**chosen)) for chosen in SETS]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(range(len(SETS))), st.integers(0, 4)), min_size=1, max_size=6))
def test_whatever_comes_in_whatever_order_each_job_has_the_bytes_it_has_alone(
    crowded: tuple[Engine, list[torch.Tensor]], arrivals: list[tuple[int, int]]
) -> None:
    engine, alone = crowded
    states = []
    for index, turns in arrivals:
        states.append((index, begin(engine, job(), *choices(**SETS[index]))))
        for _ in range(turns):
            engine.step()
    finish(engine)
    assert [torch.equal(state.latents, alone[index]) for index, state in states] == [True] * len(states)


def test_jobs_with_the_same_adapters_in_any_order_share_a_batch(model: LatentDiffusion, tmp_path: Path) -> None:
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path)
    begin(engine, job(1), *choices(one=1.0, two=0.5))
    begin(engine, job(2), *choices(two=0.5, one=1.0))
    begin(engine, job(3), *choices(one=1.0, two=0.4))
    begin(engine, job(4), *choices(one=1.0))
    begin(engine, job(5))
    assert sorted(len(engine.step()) for _ in range(4)) == [1, 1, 1, 2]


def test_the_text_is_encoded_with_the_jobs_own_adapters(model: LatentDiffusion, tmp_path: Path) -> None:
    loras.save_diffusers(tmp_path / "words.safetensors", loras.matrices(model.pipeline, only="text_encoder"))
    engine = engine_of(model, tmp_path)
    plain, changed, again = (begin(engine, job(), *chosen) for chosen in ((), choices(words=1.0), ()))
    words = "encoder_hidden_states"
    assert torch.equal(plain.text[words], again.text[words])
    assert not torch.allclose(plain.text[words], changed.text[words], atol=1e-3)
    finish(engine)


def test_a_fresh_adapter_changes_nothing(model: LatentDiffusion, tmp_path: Path) -> None:
    """B is zero before training (Hu et al. 2021)."""
    fresh = {layer: (down, torch.zeros_like(up)) for layer, (down, up) in loras.matrices(model.pipeline).items()}
    loras.save_diffusers(tmp_path / "fresh.safetensors", fresh)
    engine = engine_of(model, tmp_path)
    assert torch.equal(latents(engine, job(), *choices(fresh=1.0)), latents(engine, job()))


def test_a_file_that_was_replaced_is_another_adapter(model: LatentDiffusion, tmp_path: Path) -> None:
    engine = engine_of(model, tmp_path)
    loras.save_diffusers(tmp_path / "style.safetensors", loras.matrices(model.pipeline, 0))
    first = latents(engine, job(), *choices(style=1.0))
    running = begin(engine, job(), *choices(style=1.0))
    engine.step()
    loras.save_diffusers(tmp_path / "style.safetensors", loras.matrices(tiny.pipeline("sd", "concat", "ddim"), 1))
    second = latents(engine, job(), *choices(style=1.0))
    assert not torch.equal(first, second)
    assert torch.equal(running.latents, first)


def test_the_least_recently_used_adapters_go_when_the_budget_is_full(model: LatentDiffusion, tmp_path: Path) -> None:
    for seed, lora in enumerate(("one", "two", "three")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    layers = loras.matrices(model.pipeline)
    engine = engine_of(model, tmp_path)
    expected = latents(engine, job(), *choices(one=1.0))
    size_bytes = engine.adapters.size_bytes
    assert size_bytes == sum(4 * (down.numel() + up.numel()) for down, up in layers.values())

    engine = engine_of(tiny.model("sd", "concat"), tmp_path, budget_bytes=2 * size_bytes)
    for lora in ("one", "two", "one", "three"):
        latents(engine, job(), *choices(**{lora: 1.0}))
        assert engine.adapters.size_bytes <= 2 * size_bytes
    adapters = engine.adapters._of(engine.models["tiny"])
    digests = {lora: engine.adapters.choose(choices(**{lora: 1.0}))[0].digest for lora in ("one", "two", "three")}
    assert set(adapters.loaded) == {digests["one"], digests["three"]}
    assert torch.equal(latents(engine, job(), *choices(one=1.0)), expected)


def test_an_adapter_that_a_live_state_needs_stays(model: LatentDiffusion, tmp_path: Path) -> None:
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path, budget_bytes=1)
    expected = [latents(engine, job(), *choices(**{lora: 1.0})) for lora in ("one", "two")]
    states = [begin(engine, job(), *choices(**{lora: 1.0})) for lora in ("one", "two")]
    engine.step()
    assert len(engine.adapters._of(model).loaded) == 2
    finish(engine)
    assert [torch.equal(state.latents, latents) for state, latents in zip(states, expected, strict=True)] == [True] * 2


def test_when_the_last_adapter_has_gone_the_network_is_as_it_was_made(model: LatentDiffusion, tmp_path: Path) -> None:
    names = [name for name, _ in model.network.named_modules()]
    loras.save_diffusers(tmp_path / "one.safetensors", loras.matrices(model.pipeline))
    engine = engine_of(model, tmp_path, budget_bytes=0)
    before = latents(engine, job())
    latents(engine, job(), *choices(one=1.0))
    assert tuned(model)
    assert torch.equal(latents(engine, job()), before)
    assert not tuned(model) and engine.adapters.size_bytes == 0
    assert [name for name, _ in model.network.named_modules()] == names


def test_a_model_that_is_evicted_takes_its_adapters_along(tmp_path: Path) -> None:
    model = tiny.model("sd", "concat")
    loras.save_diffusers(tmp_path / "one.safetensors", loras.matrices(model.pipeline))
    engine = engine_of(model, tmp_path)
    latents(engine, job(), *choices(one=1.0))
    assert engine.adapters.size_bytes > 0
    engine.models = {}
    del model
    gc.collect()
    assert engine.adapters.size_bytes == 0


def images(session: Session, *tasks: Task) -> list[list[bytes]]:
    """What a session makes of tasks, one after the other."""
    for one in tasks:
        session.take(one, uploads())
        session.run([one])
        assert isinstance(one.outcome, JobReport), one.outcome
    session.shutdown()
    return [decoded(one) for one in tasks]


def decoded(one: Task) -> list[bytes]:
    """Its images' pixels: the files hold timings too."""
    return [Image.open(io.BytesIO(image)).tobytes() for image in one.images]


def with_adapters(prompt: str, **scales: float) -> Task:
    return task("sd", 1, prompt=prompt, loras=choices(**scales))


def session_of(folder: Path) -> Session:
    return Session(engine_of(tiny.model("sd", "concat"), folder), codec_threads=1)


def test_a_session_encodes_a_jobs_text_with_its_own_adapters(tmp_path: Path) -> None:
    """An adapter of the text encoder alone changes the image, as much as it does alone, whatever came before."""
    made = loras.matrices(tiny.pipeline("sd", "concat", "ddim"), only="text_encoder")
    loras.save_diffusers(tmp_path / "words.safetensors", made)
    (alone,) = images(session_of(tmp_path), with_adapters("a cat", words=3.0))
    plain, changed, other = images(
        session_of(tmp_path), with_adapters("a cat"), with_adapters("a cat", words=3.0), with_adapters("a dog")
    )
    assert plain != changed
    assert changed == alone
    assert [other] == images(session_of(tmp_path), with_adapters("a dog"))


@pytest.mark.parametrize("fewer", [{}, {"one": 1.0}])
def test_a_session_runs_a_job_with_its_own_adapters_while_those_of_the_last_are_still_loaded(
    fewer: dict[str, float], tmp_path: Path
) -> None:
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(
            tmp_path / f"{lora}.safetensors", loras.matrices(tiny.pipeline("sd", "concat", "ddim"), seed)
        )
    session = session_of(tmp_path)
    both, after = images(session, with_adapters("a cat", one=1.0, two=1.0), with_adapters("a cat", **fewer))
    (model,) = session.engine.models.values()
    assert len(session.engine.adapters._of(model).loaded) == 2
    assert [after] == images(session_of(tmp_path), with_adapters("a cat", **fewer))
    assert both != after


def test_adapters_that_were_on_when_another_did_not_fit_are_off_and_come_on_again(
    model: LatentDiffusion, tmp_path: Path
) -> None:
    loras.save_diffusers(tmp_path / "one.safetensors", loras.matrices(model.pipeline))
    nowhere = {("unet", "mid_block.attentions.0.x.to_q"): (torch.zeros(1, 1), torch.zeros(1, 1))}
    loras.save_peft(tmp_path / "odd.safetensors", nowhere)
    engine = engine_of(model, tmp_path)
    plain, changed = latents(engine, job()), latents(engine, job(), *choices(one=1.0))
    for chosen, expected in (((), plain), (choices(one=1.0), changed)):
        engine.set_adapters(model, engine.adapters.choose(choices(one=1.0)))
        with pytest.raises(BadLora, match="the model has no layer"):
            engine.set_adapters(model, engine.adapters.choose(choices(odd=1.0)))
        assert torch.equal(latents(engine, job(), *chosen), expected)
