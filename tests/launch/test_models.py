"""``infill models add`` and ``fetch``: tiny folders and a hub on loopback stand in for published models."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.catalog import load_catalog
from launch.cli import main
from tests.worker import tiny
from tests.worker.hub import Hub, Shelf

ROOT = Path(__file__).parents[2]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


Models = Callable[..., Done]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Models:
    """``infill models ...`` in this process, in the test's folder."""

    def run(*arguments: str, **env: str) -> Done:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("INFILL_CATALOG", raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        status = main(["models", *arguments])
        return Done(status, *capsys.readouterr())

    return run


def fetching(*arguments: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INFILL_")}
    command = [sys.executable, "-m", "launch", "models", *arguments]
    env = {**clean, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=120)


def folder_of(path: Path, kind: str) -> Path:
    path.mkdir()
    (path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return path


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        ("StableDiffusionInpaintPipeline", "sd"),
        ("StableDiffusionXLInpaintPipeline", "sdxl"),
        ("StableDiffusion3Pipeline", "sd3"),
        ("FluxFillPipeline", "flux"),
    ],
)
def test_a_folder_says_its_family_itself(models: Models, tmp_path: Path, kind: str, family: str) -> None:
    folder_of(tmp_path / 'a "b"', kind)
    done = models("add", "mine", 'a "b"', "--catalog", "catalog.toml")
    assert done.returncode == 0, done.stderr
    assert f"INFILL_CATALOG={tmp_path / 'catalog.toml'}" in done.stdout and "default model" in done.stdout
    entry = load_catalog(str(tmp_path / "catalog.toml")).model("mine")
    assert (entry.family, entry.source) == (family, str(tmp_path / 'a "b"'))
    assert (entry.guidance_scale == 30) == (kind == "FluxFillPipeline")


def test_more_are_appended_and_the_rest_of_the_file_stays(models: Models, tmp_path: Path) -> None:
    before = "# mine\n[models.pocket]\nfamily = 'sd'\nsource = 'embedded'\n"
    (tmp_path / "c.toml").write_text(before)
    (tmp_path / "x.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    env = {"INFILL_CATALOG": str(tmp_path / "c.toml")}
    for arguments in (["file", "x.safetensors", "--family", "sdxl"], ["hub", "org/name", "--family", "sd"]):
        done = models("add", *arguments, **env)
        assert done.returncode == 0 and "INFILL_CATALOG" not in done.stdout, done.stderr
    assert (tmp_path / "c.toml").read_text().startswith(before)
    found = load_catalog(str(tmp_path / "c.toml")).models
    assert {name: model.source_kind for name, model in found.items()} == {
        "pocket": "embedded",
        "file": "file",
        "hub": "hub",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mine", "empty"], "is no diffusers folder"),
        (["mine", "other"], "holds a KandinskyPipeline, of no known family"),
        (["mine", "sd", "--family", "flux"], "of family sd; not flux"),
        (["mine", "cut.safetensors", "--family", "sd"], "is no safetensors file, or is cut off"),
        (["mine", "gone.safetensors", "--family", "sd"], "cannot be read: No such file"),
        (["mine", "x.ckpt", "--family", "sd"], "Convert it to .safetensors"),
        (["mine", "org/name"], "name it with --family"),
        (["mine", "gone"], "is neither a folder"),
        (["a.b", "sd"], "a model's name has letters"),
        (["there", "sd"], "has a model 'there' already"),
    ],
)
def test_what_cannot_be_added_is_one_sentence_and_leaves_the_catalog(
    models: Models, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    folder_of(tmp_path / "other", "KandinskyPipeline")
    folder_of(tmp_path / "sd", "StableDiffusionPipeline")
    (tmp_path / "cut.safetensors").write_bytes((9).to_bytes(8, "little") + b"{}")
    before = "[models.there]\nfamily = 'sd'\nsource = 'embedded'\n"
    (tmp_path / "c.toml").write_text(before)
    files = sorted(tmp_path.iterdir())
    done = models("add", *arguments, "--catalog", "c.toml")
    assert done.returncode == 1 and sentence in done.stderr and len(done.stderr.splitlines()) == 1
    assert (tmp_path / "c.toml").read_text() == before and sorted(tmp_path.iterdir()) == files


def test_a_catalog_must_be_named(models: Models) -> None:
    done = models("add", "mine", "org/name", "--family", "sd")
    assert done.returncode == 1 and "Which catalog file?" in done.stderr


def test_fetch_downloads_what_a_worker_would_and_names_what_it_cannot(tmp_path: Path) -> None:
    tiny.pipeline("sd", "concat", "ddim").save_pretrained(tmp_path / "painter")
    (tmp_path / "painter" / "painter.safetensors").write_bytes(b"not needed")
    held = {"org/painter": {"main": tmp_path / "painter"}, "org/gated": {"main": tmp_path / "painter"}}
    shelf = Shelf(held, gated=frozenset({"org/gated"}))
    catalog = "".join(f"[models.{name}]\nfamily = 'sd'\nsource = 'org/{name}'\n" for name in ("gated", "painter"))
    (tmp_path / "c.toml").write_text(catalog)
    with Hub(shelf) as hub:
        env = {**hub.environment(tmp_path / "cache"), "INFILL_CATALOG": str(tmp_path / "c.toml")}
        done = fetching("fetch", "gated", "painter", cwd=tmp_path, **env)
        unknown = fetching("fetch", "gone", cwd=tmp_path, **env)
    assert done.returncode == 1 and "infill: gated: org/gated is not in the hub's cache" in done.stderr
    assert done.stdout.startswith("painter: ") and Path(done.stdout.split(": ", 1)[1].strip()).is_dir()
    assert "painter.safetensors" not in shelf.paths("org/painter") and len(shelf.paths("org/painter")) > 3
    assert unknown.returncode == 1 and "There is no model 'gone'" in unknown.stderr
