"""What a network predicts, where its catalog entry or its single file says otherwise than the configs in its folder."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import SchedulerMixin

from jobs.catalog import Prediction
from jobs.errors import BadModel

V_PRED, ZTSNR = "v_pred", "ztsnr"
"""Tensors, usually empty, that mark a single file: its network predicts velocity; it was trained up to pure noise."""
SPEC_KEYS = ("modelspec.prediction_type", "modelspec.predict_key")
"""Where trainers and node editors write in a file's header what the network predicts."""
SPEC_WORDS: Mapping[str, Prediction] = {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
"""Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed"."""


def is_mark(name: str) -> bool:
    return name.rpartition(".")[2] in (V_PRED, ZTSNR)


def marked_prediction(names: Iterable[str], metadata: Mapping[str, str]) -> Prediction:
    """What a single file says of its network by a mark, or else in its header; "auto" if nothing."""
    if any(is_mark(name) and name.endswith(V_PRED) for name in names):
        return "v_prediction"
    words = (SPEC_WORDS.get(metadata.get(key, "")) for key in SPEC_KEYS)
    return next((word for word in words if word), "auto")


def is_zero_snr(names: Iterable[str]) -> bool:
    """Whether a single file is marked as trained up to pure noise."""
    return any(is_mark(name) and name.endswith(ZTSNR) for name in names)


def changed_scheduler(folder: Path, prediction: Prediction, zero_snr: bool = False) -> dict[str, SchedulerMixin]:
    """The noise scheduler of a diffusers folder, as an argument of ``from_pretrained``; none where it stays as it is.

    Raises:
        BadModel: ``zero_snr`` of a network that predicts noise, of which there is nothing to see in pure noise.
    """
    if prediction == "auto" and not zero_snr:
        return {}
    kind: Any = getattr(diffusers, json.loads((folder / "model_index.json").read_text())["scheduler"][1])
    config = dict(kind.load_config(folder / "scheduler", local_files_only=True))
    if prediction != "auto":
        config["prediction_type"] = prediction
    if zero_snr and config.get("prediction_type") != "v_prediction":
        raise BadModel(
            f"The file is marked {ZTSNR!r}, trained up to pure noise, which only networks that predict velocity are; "
            'neither the file nor its configs say that of it. Say it in the catalog: prediction_type = "v_prediction".'
        )
    return {"scheduler": kind.from_config(config | (ZERO_SNR if zero_snr else {}))}
