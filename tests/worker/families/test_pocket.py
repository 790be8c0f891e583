"""The embedded model as it lies in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from safetensors import safe_open
from transformers import CLIPTextModel, CLIPTokenizer

from bench.colours import WORDS, share
from bench.quality import PHOTOS, Fill, load_cases, navier_stokes, telea
from bench.worker_fill import worker_fill
from recipe.attribution import known_files

POCKET = Path(__file__).parents[3] / "worker/pocket"
MODEL = POCKET / "model"
FROM_NOISE: dict[str, Any] = {"strength": 1.0, "masked_content": "original"}


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionInpaintPipeline:
    return StableDiffusionInpaintPipeline.from_pretrained(str(MODEL), dtype=torch.float32, local_files_only=True)


def _picture() -> tuple[torch.Tensor, torch.Tensor]:
    """A sky over grass, 128 px, with a hole across the horizon."""
    image = torch.empty(1, 3, 128, 128)
    image[..., :64, :] = torch.tensor([-0.2, 0.3, 0.8]).view(1, 3, 1, 1)
    image[..., 64:, :] = torch.tensor([-0.5, 0.2, -0.7]).view(1, 3, 1, 1)
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 36:92, 44:100] = 1
    return image, mask


def test_it_weighs_at_most_24_mb() -> None:
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) <= 24_000_000


def test_every_weight_is_fp16_and_finite() -> None:
    files = list(MODEL.rglob("*.safetensors"))
    assert {path.parent.name for path in files} == {"unet", "vae", "text_encoder"}
    for path in files:
        with safe_open(path, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                tensor = weights.get_tensor(name)
                assert not tensor.is_floating_point() or tensor.dtype == torch.float16, name
                assert tensor.isfinite().all(), name


def test_it_loads_as_a_diffusers_inpaint_pipeline_of_stock_parts(pipeline: StableDiffusionInpaintPipeline) -> None:
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.scheduler)
    stock = (UNet2DConditionModel, AutoencoderTiny, CLIPTextModel, CLIPTokenizer, DDIMScheduler)
    assert [type(part) for part in parts] == list(stock)
    assert pipeline.safety_checker is None


def test_channel_counts_say_concat(pipeline: StableDiffusionInpaintPipeline) -> None:
    latent_channels = pipeline.vae.config.latent_channels
    assert pipeline.unet.config.in_channels == 2 * latent_channels + 1
    assert pipeline.unet.config.out_channels == latent_channels
    assert pipeline.vae_scale_factor == 8


def test_it_paints_on_the_fill(pipeline: StableDiffusionInpaintPipeline) -> None:
    assert pipeline.unet.config["paints_on_fill"] is True


def _pixels() -> tuple[np.ndarray, np.ndarray]:
    """The same picture as bytes, (H, W, 3), and its hole, (H, W)."""
    image, mask = _picture()
    return (image[0].permute(1, 2, 0) * 127.5 + 127.5).byte().numpy(), mask[0, 0].bool().numpy()


def test_the_scheduler_starts_from_pure_noise(pipeline: StableDiffusionInpaintPipeline) -> None:
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert float(pipeline.scheduler.alphas_cumprod[-1]) == pytest.approx(0.0, abs=1e-6)
    pipeline.scheduler.set_timesteps(20)
    assert int(pipeline.scheduler.timesteps[0]) == 999


def test_a_round_trip_through_the_vae_keeps_the_picture(pipeline: StableDiffusionInpaintPipeline) -> None:
    image, _ = _picture()
    with torch.inference_mode():
        back = pipeline.vae.decode(pipeline.vae.encode(image).latents).sample
    assert float((back - image).abs().mean()) < 0.08


def test_it_fills_a_hole_better_than_the_mean_colour() -> None:
    image, hole = _pixels()
    painted = worker_fill(num_inference_steps=8, **FROM_NOISE)(image, hole).astype(float)
    mean = image[~hole].mean(0)
    assert np.square(painted - image)[hole].mean() < 0.5 * np.square(mean - image)[hole].mean()


def test_the_same_seed_paints_the_same_picture() -> None:
    image, hole = _pixels()
    asked: dict[str, Any] = {"prompt": "red", "num_inference_steps": 2, "guidance_scale": 2.0, **FROM_NOISE}
    first, again, other = (worker_fill(seed=seed, **asked)(image, hole) for seed in (5, 5, 6))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("word", WORDS)
def test_the_hole_takes_the_hue_of_a_colour_word_on_four_photos_of_five(word: str) -> None:
    painted = worker_fill(prompt=word, preset="colour", num_inference_steps=2)
    assert share(load_cases(PHOTOS, "box", 256), painted, WORDS[word]) >= 0.8


def _psnr(fill: Fill, mask: str) -> float:
    """In the hole, in dB: the mean over the photos."""
    errors = [
        np.square(fill(case.image, case.hole).astype(float) - case.image)[case.hole].mean()
        for case in load_cases(PHOTOS, mask, 256)
    ]
    return float(np.mean(10 * np.log10(255**2 / np.array(errors))))


def test_it_fills_strokes_better_than_classical_fills_do() -> None:
    classical = max(_psnr(telea, "brush"), _psnr(navier_stokes, "brush"))
    assert _psnr(worker_fill(), "brush") > classical + 0.5


def test_it_fills_boxes_better_than_classical_fills_do() -> None:
    classical = max(_psnr(telea, "box"), _psnr(navier_stokes, "box"))
    assert _psnr(worker_fill(num_inference_steps=2), "box") > classical + 0.3


def test_licence_attribution_and_recipe_lie_beside_it() -> None:
    assert "Attribution-ShareAlike 4.0" in (POCKET / "LICENSE").read_text()
    assert "python -m recipe unet" in (POCKET / "RECIPE.md").read_text()


def test_every_photo_it_was_trained_on_is_known_to_the_attribution() -> None:
    seen = set((POCKET / "trained_on.txt").read_text().split())
    assert seen
    assert seen <= known_files((POCKET / "ATTRIBUTION").read_text())
