"""Tiny models, loaded as a worker loads them."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from jobs.catalog import ModelEntry
from tests.factories import model_entry
from worker.families.latent_diffusion import LatentDiffusion
from worker.models.loading import Loader, networks
from worker.settings import WorkerSettings


def entry(source: Path | str, family: str = "sd", **fields: Any) -> ModelEntry:
    return model_entry(family=family, source=str(source), **fields)


def settings(**fields: Any) -> WorkerSettings:
    return WorkerSettings(device="cpu", **fields)


def load(source: Path | str, family: str = "sd", worker: WorkerSettings | None = None, **fields: Any) -> Any:
    return Loader(worker or settings()).load("tiny", entry(source, family, **fields))


def weights(pipeline: Any) -> dict[str, torch.Tensor]:
    parts = enumerate(networks(pipeline))
    return {f"{index}.{name}": tensor for index, part in parts for name, tensor in part.state_dict().items()}


def assert_same(one: LatentDiffusion, other: LatentDiffusion) -> None:
    ours, theirs = weights(one.pipeline), weights(other.pipeline)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def digest(family: LatentDiffusion) -> str:
    """Of all weights."""
    made = hashlib.sha256()
    for name, tensor in weights(family.pipeline).items():
        made.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return made.hexdigest()
