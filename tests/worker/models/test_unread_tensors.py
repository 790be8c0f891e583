"""Single files with tensors that nothing reads: named and refused, but for those that no pipeline needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.errors import BadModel
from tests.worker import ldm, published, tiny
from tests.worker.loads import load
from tests.worker.published_sizes import flux, folder_of, sd3, two_text_encoders

Tensors = dict[str, torch.Tensor]


def open_clip(pipeline: Any) -> Tensors:
    """Stable Diffusion 2: OpenCLIP's names, and a last layer that diffusers' text encoder leaves out."""
    tensors = {**dict(ldm.unet_tensors(pipeline.unet)), **dict(ldm.vae_tensors(pipeline.vae))}
    tensors |= ldm.open_clip_tensors(pipeline.text_encoder, "cond_stage_model.model.")
    left_out = {"transformer.resblocks.23.attn.in_proj_weight": (96, 32), "text_projection": (32, 32)}
    tensors |= {f"cond_stage_model.model.{name}": torch.ones(shape) for name, shape in left_out.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


KINDS: dict[str, tuple[str, Callable[[], Any], Callable[[Any], Tensors]]] = {
    "sd": ("sd", lambda: tiny.pipeline("sd", "concat", "ddim"), ldm.all_tensors),
    "sd 2": ("sd", lambda: tiny.pipeline("sd", "recompose", "ddim"), open_clip),
    "sdxl": ("sdxl", two_text_encoders, ldm.all_tensors),
    "sd3": ("sd3", sd3, published.all_tensors),
    "sd3.5 medium": ("sd3", lambda: sd3(qk_norm="rms_norm", dual_attention_layers=(0,)), published.all_tensors),
    "flux": ("flux", lambda: flux(64), published.all_tensors),
    "flux without text and VAE": ("flux", lambda: flux(64), lambda made: published.network_tensors(made.transformer)),
}


def read(kind: str, folder: Path, added: Tensors) -> Any:
    family, make, tensors_of = KINDS[kind]
    pipeline = make()
    tensors = {name: tensor.clone().contiguous() for name, tensor in tensors_of(pipeline).items()}
    assert not tensors.keys() & added.keys()
    save_file(tensors | added, folder / "file.safetensors")
    config = str(folder_of(pipeline, folder / "folder"))
    scheduler = "ddim" if family.startswith("sd") and family != "sd3" else "flow_euler"
    return load(folder / "file.safetensors", family, config=config, scheduler=scheduler)


ODD = {
    "sd": [
        "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn1.to_q.gate",
        "model.diffusion_model.time_embed.4.weight",
        "first_stage_model.decoder.mid.extra.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.7.mlp.fc1.weight",
        "control_model.input_hint_block.weight",
        "edm_vpred.sigma_max",
    ],
    "sd 2": ["cond_stage_model.model.transformer.resblocks.9.ln_1.bias"],
    "sdxl": ["conditioner.embedders.1.model.transformer.resblocks.9.ln_1.bias", "conditioner.embedders.2.weight"],
    "sd3": ["model.diffusion_model.joint_blocks.0.x_block.extra.weight", "text_encoders.clip_g.extra.weight", "v_pred"],
    "sd3.5 medium": ["model.diffusion_model.joint_blocks.0.x_block.attn2.extra"],
    "flux": ["model.diffusion_model.double_blocks.0.extra.scale", "vae.encoder.extra", "text_encoders.other.weight"],
    "flux without text and VAE": ["double_blocks.0.img_attn.qkv.scale"],
}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in ODD.items() for name in names])
def test_a_tensor_that_nothing_reads_is_refused_by_name(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=f"file.safetensors has tensors that nothing reads: {name}\\. "):
        read(kind, tmp_path, {name: torch.ones(3)})


def test_of_many_such_tensors_five_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"nothing reads: odd\.0, odd\.1, odd\.2, odd\.3, odd\.4 and 3 more\."):
        read("sd", tmp_path, {f"odd.{index}": torch.ones(1) for index in range(8)})


NOISE_LEVELS = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
]
IDLE = {
    "sd": [
        *NOISE_LEVELS,
        "model_ema.decay",
        "model_ema.diffusion_modelinput_blocks00weight",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
        "cond_stage_model.logit_scale",
        "first_stage_model.loss.logvar",
    ],
    "sd 2": [*NOISE_LEVELS, "cond_stage_model.model.logit_scale"],
    "sdxl": ["denoiser.sigmas", "conditioner.embedders.1.model.logit_scale"],
    "sd3": ["text_encoders.clip_l.transformer.text_projection.weight", "text_encoders.clip_g.logit_scale"],
    "sd3.5 medium": [],
    "flux": ["text_encoders.t5xxl.logit_scale", "text_encoders.t5xxl.spiece_model"],
    "flux without text and VAE": [],
}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("kind", IDLE)
def test_tensors_of_published_files_that_no_pipeline_needs_are_let_through(kind: str, tmp_path: Path) -> None:
    assert read(kind, tmp_path, {name: torch.ones(3) for name in IDLE[kind]}).name == "tiny"
