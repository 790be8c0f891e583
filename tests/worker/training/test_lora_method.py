"""LoRA as it is written (Hu et al. 2021, section 4.1), on a tiny network, built as the training builds it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from jobs.loras import LoraFolder
from jobs.schema import LoraChoice
from tests.worker import tiny
from tests.worker.loras import describe
from tests.worker.runs import asked, canvas, difference, no_clock, parameters
from worker.engine.engine import Engine
from worker.models.adapters import Adapters
from worker.models.peft_layers import widths_of
from worker.training.lora import add_lora, lora_modules, save_lora

RANK = 3


def unet() -> Any:
    return tiny.unet(9, cross_attention_dim=32).train()


def output(network: Any, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, 9, 8, 8, generator=generator)
    text = torch.randn(2, 5, 32, generator=generator)
    return torch.as_tensor(network(sample, torch.tensor([3, 500]), encoder_hidden_states=text).sample)


def halves(layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, k) and B (d, r)."""
    return layer.lora_A["default"].weight, layer.lora_B["default"].weight


def backward(network: Any) -> None:
    network.zero_grad()
    output(network).square().mean().backward()


@pytest.fixture
def network() -> Any:
    made = unet()
    add_lora(made, RANK, seed=0)
    return made


def test_a_is_gaussian_and_b_is_zero(network: Any) -> None:
    for layer in lora_modules(network).values():
        down, up = halves(layer)
        assert down.shape == (RANK, layer.in_features) and up.shape == (layer.out_features, RANK)
        assert not up.any()
    entries = torch.cat([halves(layer)[0].detach().flatten() for layer in lora_modules(network).values()])
    entries = entries / entries.std()
    assert abs(float(entries.mean())) < 0.1
    assert abs(float((entries**4).mean()) - 3) < 0.6  # the kurtosis of a Gaussian; a uniform one has 1.8


def test_a_fresh_adapter_changes_nothing(network: Any) -> None:
    assert torch.equal(output(network), output(unet()))


def test_the_first_gradient_reaches_b_and_not_a(network: Any) -> None:
    """dL/dA = scale * B^T (dL/dy) x^T and B is zero."""
    backward(network)
    for layer in lora_modules(network).values():
        down, up = halves(layer)
        assert up.grad is not None and up.grad.any()
        assert down.grad is not None and not down.grad.any()


def test_after_one_step_b_is_not_zero_and_a_has_its_first_gradient(network: Any) -> None:
    first = [halves(layer)[0].clone() for layer in lora_modules(network).values()]
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    backward(network)
    optimizer.step()
    for layer, before in zip(lora_modules(network).values(), first, strict=True):
        down, up = halves(layer)
        assert up.any()
        assert torch.equal(down, before)
    assert not torch.equal(output(network), output(unet()))
    backward(network)
    gradients = [halves(layer)[0].grad for layer in lora_modules(network).values()]
    assert all(gradient is not None and gradient.any() for gradient in gradients)


def test_r_times_d_plus_k_parameters_are_trained_in_place_of_d_times_k(network: Any) -> None:
    layers = lora_modules(network).values()
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == sum(RANK * (layer.out_features + layer.in_features) for layer in layers)
    assert trained < sum(layer.out_features * layer.in_features for layer in layers)
    assert trained == sum(p.numel() for layer in layers for p in halves(layer))


def test_the_network_itself_does_not_change_by_training(network: Any) -> None:
    before = {name: tensor.clone() for name, tensor in unet().state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        backward(network)
        optimizer.step()
    after = {name.replace(".base_layer", ""): t for name, t in network.state_dict().items() if ".lora_" not in name}
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def trained(network: Any) -> Any:
    """As after training: B is not zero."""
    generator = torch.Generator().manual_seed(5)
    for layer in lora_modules(network).values():
        halves(layer)[1].data = torch.randn(layer.out_features, RANK, generator=generator) * 0.3
    return network


@torch.no_grad()
def test_the_update_is_b_times_a(network: Any) -> None:
    """A network whose weights are W + B A computes the same."""
    merged = unet()
    layers = dict(merged.named_modules())
    for name, layer in lora_modules(trained(network)).items():
        down, up = halves(layer)
        layers[name].weight.data += up @ down
    assert difference(output(merged), output(network)) < 1e-5
    assert difference(output(unet()), output(network)) > 0.01


def test_what_the_training_saves_acts_the_same_here_and_in_diffusers(tmp_path: Path) -> None:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    fresh = copy.deepcopy(pipeline.unet)
    add_lora(pipeline.unet, RANK, seed=0)
    trained(pipeline.unet)
    save_lora(pipeline, "unet", tmp_path / "texture.safetensors")
    file = describe(tmp_path / "texture.safetensors")
    assert file.rank == RANK and "sd" in file.families
    file.check_fits("tiny", "sd", widths_of(tiny.pipeline("sd", "concat", "ddim")))

    wanted, pixels = parameters("ddim", 1.0), canvas()
    expected = asked(pipeline, "sd", wanted, pixels)
    elsewhere = tiny.pipeline("sd", "concat", "ddim")
    elsewhere.load_lora_weights(str(tmp_path), weight_name="texture.safetensors")
    assert difference(asked(elsewhere, "sd", wanted, pixels), expected) < 1e-4

    model = tiny.model("sd", "concat", "ddim")
    assert torch.equal(model.network.conv_in.weight, fresh.conv_in.weight)
    engine = Engine({"tiny": model}, 8, Adapters(LoraFolder(str(tmp_path)), 2**30))
    adapters = engine.adapters.choose([LoraChoice(name="texture", scale=1.0)])
    engine.set_adapters(model, adapters)
    (state,) = model.prepare(pixels, wanted, no_clock, adapters)
    engine.join([state])
    while engine.live:
        engine.step()
    assert difference(state.latents, expected) < 1e-4
