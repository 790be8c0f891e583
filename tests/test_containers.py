"""The container files, read as text: no container engine was at hand to run them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def environment(target: str) -> dict[str, str]:
    """What the Dockerfile's stage of this name sets, without the stages that it builds on."""
    stages = re.split(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stage = stages[stages.index(target) + 1]
    return dict(pair.split("=", 1) for line in re.findall(r"^ENV (.+)$", stage, re.MULTILINE) for pair in line.split())


@pytest.fixture
def compose() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return made


def test_a_worker_may_download_the_models_that_the_catalog_names_on_the_hub(compose: dict[str, Any]) -> None:
    for settings in (environment("worker"), compose["services"]["worker"]["environment"]):
        assert "HF_HUB_OFFLINE" not in settings


def test_a_worker_can_compile_with_a_root_that_cannot_be_written_and_a_tmp_that_cannot_be_executed() -> None:
    assert re.search(r"apt-get install .*\bgcc\b.*\bg\+\+", (ROOT / "Dockerfile").read_text())
    settings = environment("worker")
    for cache in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert settings[cache].startswith(settings["HF_HOME"] + "/")
    assert settings["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"


def test_what_a_worker_downloads_lies_in_a_volume_since_its_root_cannot_be_written(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    (mount,) = [volume for volume in worker["volumes"] if volume.partition(":")[0] in compose["volumes"]]
    assert worker["read_only"] and mount.partition(":")[2] == environment("worker")["HF_HOME"]
