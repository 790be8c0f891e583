"""Adapters that were there when their job was accepted."""

from pathlib import Path

import pytest

from jobs.errors import BadLora
from tests.worker import loras, tiny
from tests.worker.lora_requests import choices, engine_of


@pytest.mark.parametrize("state", ["gone", "no weights", "a folder"])
def test_an_adapter_whose_file_cannot_be_read_any_more_fails_its_job_by_its_code(tmp_path: Path, state: str) -> None:
    model = tiny.model("sd", "concat")
    loras.save_diffusers(tmp_path / "style.safetensors", loras.matrices(model.pipeline))
    adapters = engine_of(model, tmp_path).adapters
    (chosen,) = adapters.choose(choices(style=0.5))
    assert (chosen.name, chosen.scale) == ("style", 0.5)
    (tmp_path / "style.safetensors").unlink()
    if state == "no weights":
        (tmp_path / "style.safetensors").write_bytes(b"no weights")
    elif state == "a folder":
        (tmp_path / "style.safetensors").mkdir()
    with pytest.raises(BadLora):
        adapters.choose(choices(style=0.5))
