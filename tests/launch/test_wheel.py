"""The wheel: what is in it, and that ``infill`` runs from it in an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
BUILD = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q"]
NEEDED = {
    "jobs/catalog.toml",
    "jobs/py.typed",
    *(f"app/page/{path.name}" for path in (ROOT / "app" / "page").iterdir()),
    *(f"app/docs/{path.relative_to(ROOT / 'docs')}" for path in (ROOT / "docs").rglob("*.md")),
    "worker/pocket/model/unet/diffusion_pytorch_model.safetensors",
    "worker/pocket/model/model_index.json",
    "worker/pocket/ATTRIBUTION",
    "worker/pocket/LICENSE",
    "launch/sample/photo.png",
    "launch/sample/mask.png",
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, built from a copy of the tracked ones."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    source = folder / "source"
    for name in filter(None, tracked.decode().split("\0")):
        if (ROOT / name).exists() and not name.startswith(("tests/", "bench/photos/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    subprocess.run([*BUILD, "-w", str(folder), str(source)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def infill(unpacked: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFILL_")}
    env = clean | {"PYTHONPATH": str(unpacked), "OMP_NUM_THREADS": "1", "INFILL_TORCH_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "launch", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)


def test_it_has_the_packages_with_their_data_and_nothing_else(unpacked: Path) -> None:
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert files >= NEEDED
    tops = {name.partition("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "app",
        "infill_client",
        "jobs",
        "launch",
        "worker",
    }


def test_the_demo_runs_from_it_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    ended = infill(unpacked, tmp_path, "demo")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "changed_outside_mask: 0 (counted again here: 0)" in ended.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"demo", "var"}
    with Image.open(tmp_path / "demo" / "removed.png") as result:
        assert result.size == (512, 512)


def test_help_leaves_nothing_behind(unpacked: Path, tmp_path: Path) -> None:
    assert "keys" in infill(unpacked, tmp_path, "--help").stdout
    assert not list(tmp_path.iterdir())
