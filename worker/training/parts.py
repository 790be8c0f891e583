"""The networks and the scheduler of the pocket model, untrained, in diffusers' and transformers' own classes."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from worker.training.latent_space import SCALING_FACTOR, LatentSpace, exact_encoder

TEXT_WIDTH = 128


def make_vae(space: LatentSpace, width: int = 40, blocks: tuple[int, int, int, int] = (4, 4, 2, 0)) -> AutoencoderTiny:
    """8x, its encoder exact from the start; the decoder is what `worker.training vae` trains."""
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


def make_scheduler(**changes: Any) -> DDIMScheduler:
    """v-prediction down to a signal-to-noise ratio of zero: sampling starts from pure noise, and so does training."""
    settings = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
        "set_alpha_to_one": True,
        "steps_offset": 1,
    }
    return DDIMScheduler(**(settings | changes))
