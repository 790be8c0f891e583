"""The engine's thread beside a device: host and device are never mixed, and hardly anything waits.

On a pretend device, in a process of its own; on a real one, where there is one, torch itself looks for waits.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from jobs.schedulers import SCHEDULERS
from tests.worker.device_scenarios import Observation, Scenario, misuse, observe, pretending, run

GUIDED, PLAIN = {"guidance_scale": 4.0}, {"guidance_scale": 1.0}
FILLED = {"strength": 0.6, "masked_content": "fill", "n": 2}
DIFFUSION = [{"scheduler": name} for name, entry in SCHEDULERS.items() if entry.law == "diffusion"]
FLOW = [{"scheduler": name} for name, entry in SCHEDULERS.items() if entry.law == "flow"]
OFFLOADED = Scenario("sd", "concat", [{"num_inference_steps": 1}], offload="sequential")

SCENARIOS = {
    "every scheduler in one batch": Scenario("sd", "recompose", [{**GUIDED, **asked} for asked in DIFFUSION]),
    "hard and soft masks": Scenario("sdxl", "concat", [GUIDED, GUIDED, {**GUIDED, **FILLED}], preview=True),
    "bfloat16": Scenario("sd3", "recompose", [{**GUIDED, **asked} for asked in FLOW], dtype=torch.bfloat16),
    "FLUX Fill": Scenario("flux", "concat", [PLAIN, PLAIN | FILLED]),
    "prompts of several lengths": Scenario("qwen-image", "recompose", [GUIDED] * 2),
    "cached features": Scenario("sd", "concat", [{**GUIDED, "cache_interval": 2}] * 2, kept_bytes=2**28),
    "the pocket model": Scenario("sd", "fill", [PLAIN] * 2),
}
PREPARATION_WAITS = {"sd": 5, "sdxl": 6, "sd3": 8, "flux": 8, "qwen-image": 22}
"""For text and for pictures to be encoded, one each, so that both have their own times, and for each encoding that a
job uses again, as it must be finite; the others are diffusers' and transformers' own uploads of token ids, and what
they read of masks of tokens."""
FINISH_WAITS = 2
"""For the decoding, whose result is checked, and for the picture."""
STEP_WAITS = {"prompts of several lengths": 1}
"""diffusers' network uploads the longest prompt's length."""
KERNELS = {"prompts of several lengths": 46}
"""Where it is not 30 and two a job: Qwen-Image's guidance keeps the length of each patch, and prompts are padded."""
TOLERATED = {"timestep": "float32", "1": "float32", "encoder_hidden_states_mask": "bool"}
"""Of the network's arguments: timesteps, which it rounds itself, and a mask of tokens; in FLUX also positions."""
POSITIONS = {"img_ids", "txt_ids", "guidance"}


@pytest.fixture(scope="module")
def device() -> Iterator[ProcessPoolExecutor]:
    with pretending() as pool:
        yield pool


@pytest.fixture(scope="module")
def observations(device: ProcessPoolExecutor) -> dict[str, Observation]:
    found = {title: device.submit(observe, scenario) for title, scenario in SCENARIOS.items()}
    return {title: future.result() for title, future in found.items()}


@pytest.mark.parametrize("title", SCENARIOS)
def test_host_and_device_are_not_mixed_and_pictures_are_the_cpus(
    title: str, observations: dict[str, Observation]
) -> None:
    seen = observations[title]
    assert not seen.mismatches
    assert seen.apart == 0


@pytest.mark.parametrize("title", SCENARIOS)
def test_no_step_waits_for_the_device(title: str, observations: dict[str, Observation]) -> None:
    steady = observations[title].calls_of("step")[1:]  # the first one caches a network's own tables
    assert len(steady) >= 3
    assert [call.waits for call in steady if len(call.waits) > STEP_WAITS.get(title, 0)] == []


@pytest.mark.parametrize("title", SCENARIOS)
def test_a_preparation_and_a_decoding_wait_for_their_results_alone(
    title: str, observations: dict[str, Observation]
) -> None:
    seen, most = observations[title], PREPARATION_WAITS[SCENARIOS[title].family]
    assert [call.waits for call in seen.calls_of("prepare") if len(call.waits) > most] == []
    assert [call.waits for call in seen.calls_of("finish") if len(call.waits) > FINISH_WAITS] == []


@pytest.mark.parametrize("title", SCENARIOS)
def test_a_step_has_few_kernels_beside_the_network_however_many_jobs(
    title: str, observations: dict[str, Observation]
) -> None:
    most = KERNELS.get(title, 30 + 2 * len(SCENARIOS[title].jobs))
    assert max(call.kernels_outside for call in observations[title].calls_of("step")) <= most


@pytest.mark.parametrize("title", SCENARIOS)
def test_the_network_is_given_the_models_dtype(title: str, observations: dict[str, Observation]) -> None:
    dtype = str(SCENARIOS[title].dtype).removeprefix("torch.")
    given = {(name, kind) for name, kind in observations[title].given if kind != dtype and name not in POSITIONS}
    assert given <= set(TOLERATED.items())


def test_offloaded_weights_come_to_the_device_before_they_are_used(device: ProcessPoolExecutor) -> None:
    seen = device.submit(observe, OFFLOADED).result()
    assert not seen.mismatches and seen.apart == 0


def test_the_pretend_device_notices_what_a_real_one_would_refuse_or_wait_for(device: ProcessPoolExecutor) -> None:
    mismatches, waits = device.submit(misuse).result()
    assert mismatches == ["host beside device", "numpy() of a device tensor"]
    assert waits == ["item", "boolean index", "host index", "to the host", "pageable upload"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("title", [title for title in SCENARIOS if title not in STEP_WAITS])
def test_no_step_waits_for_a_real_device(title: str) -> None:
    """Beside the bound on how far ahead the host may be, which waits for an event of an earlier pass."""
    run(SCENARIOS[title], torch.device("cuda"))
