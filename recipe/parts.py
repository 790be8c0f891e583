"""The networks and the scheduler of the pocket model, untrained, in diffusers' and transformers' own classes."""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from recipe.latent_space import SCALING_FACTOR, LatentSpace, exact_encoder

TEXT_WIDTH = 128
TRAIN_STEPS = 1000
LAST_SIGNAL = 0.999


def make_vae(space: LatentSpace, width: int = 40, blocks: tuple[int, int, int, int] = (4, 4, 2, 0)) -> AutoencoderTiny:
    """8x, its encoder exact from the start; the decoder is what `recipe vae` trains."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(48, 48, 48, 48),
        decoder_block_out_channels=(width,) * 4,
        num_encoder_blocks=(0, 0, 0, 0),
        num_decoder_blocks=blocks,
        latent_channels=space.channels,
        scaling_factor=SCALING_FACTOR,
    )
    vae.encoder.load_state_dict(exact_encoder(space, 48))
    return vae


def make_unet(
    latent_channels: int = 16, widths: tuple[int, int, int] = (64, 128, 160), head_dim: int = 32, groups: int = 32
) -> UNet2DConditionModel:
    """Three levels, attention (to itself and to the text) at the lowest: the upper two cost a CPU most of its time."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=2 * latent_channels + 1,
        out_channels=latent_channels,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=widths,
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=head_dim,
        norm_num_groups=groups,
        use_linear_projection=True,
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Two layers of width 128 over the tokenizer's vocabulary."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def make_scheduler(last_signal: float = LAST_SIGNAL) -> DDIMScheduler:
    """v-prediction down to a signal-to-noise ratio of zero: sampling starts from pure noise, and so does training."""
    return DDIMScheduler(
        num_train_timesteps=TRAIN_STEPS,
        trained_betas=decide_then_refine(last_signal),
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def decide_then_refine(last_signal: float) -> list[float]:
    """Betas of a noise law for a network that learnt for an hour: a cosine down to `last_signal`, then pure noise.

    The last timestep shows the network no signal at all: its prediction there decides what fills the hole, and the next
    ones go over it with little noise. The noise levels in between, where a large model invents
    objects, are left out: a small one fills them with patches of colour.
    """
    angle = torch.linspace(0.02, math.acos(last_signal), TRAIN_STEPS - 1, dtype=torch.float64)
    kept = angle.cos().square()
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=torch.float64), kept[:-1]])
    return [round(beta, 9) for beta in betas.tolist()] + [0.9999]
