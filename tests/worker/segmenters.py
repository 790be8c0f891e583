"""A tiny CLIPSeg with random weights, which finds a part of the photo that it is made for."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessor

from tests.worker import tiny

SIDE = 32
WORDS = "red car"
TABLE = """
[segmenters.{name}]
network = "clipseg"
source = "{source}"
least_score = {least_score}
"""


def processor() -> CLIPSegProcessor:
    return CLIPSegProcessor(ViTImageProcessor(size={"height": SIDE, "width": SIDE}), tiny.tokenizer())


def network() -> CLIPSegForImageSegmentation:
    torch.manual_seed(0)
    part = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 188, "eos_token_id": 189, "pad_token_id": 189}
    config = CLIPSegConfig(
        text_config={**part, **ends, "vocab_size": 256, "max_position_embeddings": 16},
        vision_config={**part, "image_size": SIDE, "patch_size": 8},
        projection_dim=32,
        extract_layers=[0, 1],
        reduce_dim=16,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=37,
    )
    return CLIPSegForImageSegmentation(config).eval()


def logits_of(network: Any, processor: Any, photo: NDArray[np.uint8], words: str = WORDS) -> torch.Tensor:
    """As transformers has them, (h, w)."""
    with torch.inference_mode():
        found: torch.Tensor = network(**processor(text=[words], images=[photo], return_tensors="pt")).logits
    return found.squeeze(0)


def save(folder: Path, photo: NDArray[np.uint8], share: float = 0.3) -> Path:
    """A folder of transformers. Of ``photo``, (H, W, 3), about ``share`` of it is what ``WORDS`` name, and surely."""
    made, processed = network(), processor()
    last = made.decoder.transposed_convolution
    logits = logits_of(made, processed, photo)
    with torch.no_grad():
        scale = 10 / float(logits.std())
        last.weight *= scale
        last.bias.copy_(scale * (last.bias - torch.quantile(logits, 1 - share)))
    made.save_pretrained(folder)
    processed.save_pretrained(folder)
    return folder
