"""CLIPSeg: a photo and words -> how sure it is, per pixel, that the words name it. It paints nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

from jobs.errors import BadModel, MaskNotFound, NotFinite
from jobs.segmenters import SegmenterEntry
from worker.pixels.pictures import Pixels

Floats = NDArray[np.float32]


class ClipSeg:
    """A loaded segmenter. Runs on the engine's thread, for one photo at a time."""

    def __init__(self, name: str, network: Any, processor: Any) -> None:
        self.name = name
        self.network = network
        self.processor = processor

    @torch.inference_mode()
    def find(self, photo: Pixels, prompt: str) -> Floats:
        """Logits (h, w), above 0 where the words are, of the network's own size; they span all of the photo, (H, W, 3).

        Raises MaskNotFound for more words than the network reads, NotFinite.
        """
        inputs = self.processor(text=[prompt], images=[photo], return_tensors="pt")
        used, limit = inputs["input_ids"].shape[1], self.network.config.text_config.max_position_embeddings
        if used > limit:
            raise MaskNotFound(
                f"mask_prompt: it has {used} tokens, and segmenter {self.name!r} reads {limit}. Send fewer words."
            )
        logits = self.network(**inputs.to(self.network.device)).logits
        if not torch.isfinite(logits).all():
            raise NotFinite(f"The logits of segmenter {self.name!r} are not finite.")
        found: Floats = logits.squeeze(0).float().cpu().numpy()
        return found


def read_clipseg(name: str, entry: SegmenterEntry) -> ClipSeg:
    """Read one into main memory, from safetensors alone: a pickle can run code. Raises BadModel."""
    source = entry.source if entry.on_hub else str(Path(entry.source).expanduser())
    where: dict[str, Any] = {"local_files_only": not entry.on_hub, "revision": entry.revision or "main"}
    try:
        network, info = CLIPSegForImageSegmentation.from_pretrained(
            source, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **where
        )
        processor = CLIPSegProcessor.from_pretrained(source, **where)
    except Exception as error:
        raise BadModel(f"Segmenter {name!r} ({entry.source}): {error}") from error
    if info["missing_keys"]:
        raise BadModel(f"Segmenter {name!r} ({entry.source}): its files lack {min(info['missing_keys'])} and more.")
    return ClipSeg(name, network.eval(), processor)
