"""Models that are downloaded from a hub, by processes of their own: its client reads its environment when imported."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.worker import tiny
from tests.worker.hub import Hub, Shelf, commit
from tests.worker.ldm import save_single_file
from tests.worker.loads import digest, load
from tests.worker.published import network_tensors, save

PAINTER = "org/painter"
INPAINTING = "stable-diffusion-v1-5/stable-diffusion-inpainting"
DEV = "black-forest-labs/FLUX.1-dev"
UNET = "unet/diffusion_pytorch_model.safetensors"
NETWORKS = {"text_encoder/model.safetensors", UNET, "vae/diffusion_pytorch_model.safetensors"}
NEEDLESS = {"painter.safetensors", "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors"}

SOURCES: dict[str, dict[str, Any]] = {
    "main": {"source": PAINTER},
    "tag": {"source": PAINTER, "revision": "v2"},
    "commit": {"source": PAINTER, "revision": commit(PAINTER, "v2")},
    "again": {"source": PAINTER},
    "no such model": {"source": "org/gone"},
    "no such revision": {"source": PAINTER, "revision": "v9"},
    "gated": {"source": "org/gated"},
    "variant": {"source": "org/half"},
    "file": {"source": "sd.safetensors"},
    "file of the network": {"source": "flux.safetensors", "family": "flux", "scheduler": "flow_euler"},
}
LOADS = """
import json, sys
from jobs.errors import BadModel
from tests.worker.loads import digest
from tests.worker.loads import load
for name, fields in json.loads(sys.argv[1]).items():
    try:
        print(json.dumps([name, digest(load(**fields))]))
    except BadModel as error:
        print(json.dumps([name, str(error)]))
"""


def loaded(env: dict[str, str], folder: Path, wanted: list[str]) -> dict[str, str]:
    """Of each of ``SOURCES`` the digest, or why it cannot be loaded, from a fresh process."""
    named = {name: dict(SOURCES[name]) for name in wanted}
    for fields in named.values():
        if fields["source"].endswith(".safetensors"):
            fields["source"] = str(folder / fields["source"])
    command = [sys.executable, "-c", LOADS, json.dumps(named)]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert shown.returncode == 0, shown.stderr
    return dict(json.loads(line) for line in shown.stdout.splitlines())


@dataclass(frozen=True)
class Downloads:
    """What came of ``SOURCES`` while there was a hub, and in a new process when there was none any more."""

    folder: Path
    shelf: Shelf
    online: dict[str, str]
    offline: dict[str, str]

    def expected(self, mode: str) -> str:
        return digest(load(self.folder / mode))


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Downloads:
    folder = tmp_path_factory.mktemp("hub")
    for mode in ("concat", "recompose"):
        tiny.pipeline("sd", mode, "ddim").save_pretrained(folder / mode)
    tiny.pipeline("sd", "concat", "ddim").save_pretrained(folder / "half", variant="fp16")
    for path in NEEDLESS:
        (folder / "concat" / path).write_bytes(b"not to be read")
    save_single_file(tiny.pipeline("sd", "concat", "ddim"), folder / "sd.safetensors")
    flux = tiny.pipeline("flux", "recompose", "flow_euler")
    flux.save_pretrained(folder / "flux")
    save(network_tensors(flux.transformer), folder / "flux.safetensors")
    held = {
        PAINTER: {"main": folder / "concat", "v2": folder / "recompose"},
        INPAINTING: {"main": folder / "concat"},
        DEV: {"main": folder / "flux"},
        "org/gated": {"main": folder / "concat"},
        "org/half": {"main": folder / "half"},
    }
    shelf = Shelf(held, gated=frozenset({"org/gated"}), stumbles={UNET})
    with Hub(shelf) as hub:
        env = hub.environment(folder / "cache")
        online = loaded(env, folder, list(SOURCES))
    return Downloads(
        folder, shelf, online, loaded(env, folder, ["main", "tag", "commit", "variant", "file", "no such model"])
    )


def test_a_model_is_downloaded_from_the_hub_though_a_file_breaks_off(downloads: Downloads) -> None:
    assert downloads.online["main"] == downloads.expected("concat")


@pytest.mark.parametrize("name", ["tag", "commit"])
def test_a_revision_is_a_tag_or_a_commit(downloads: Downloads, name: str) -> None:
    assert downloads.online[name] == downloads.expected("recompose") != downloads.expected("concat")


def test_weights_that_are_there_as_a_variant_alone_are_downloaded(downloads: Downloads) -> None:
    assert downloads.online["variant"] == downloads.expected("concat")


def test_nothing_is_downloaded_twice(downloads: Downloads) -> None:
    assert downloads.online["again"] == downloads.online["main"]
    assert len(set(downloads.shelf.served)) == len(downloads.shelf.served)


def test_only_what_is_needed_is_downloaded(downloads: Downloads) -> None:
    served = downloads.shelf.paths(PAINTER)
    assert served > NETWORKS
    assert not served & NEEDLESS


def test_what_was_downloaded_is_loaded_when_the_hub_is_gone(downloads: Downloads) -> None:
    for name in ("main", "tag", "commit", "variant", "file"):
        assert downloads.offline[name] == downloads.online[name]
    assert "org/gone is not in the hub's cache" in downloads.offline["no such model"]


def test_a_single_file_fetches_the_configs_of_its_kind_and_no_weights(downloads: Downloads) -> None:
    assert downloads.online["file"] == downloads.expected("concat")
    served = downloads.shelf.paths(INPAINTING)
    assert {"model_index.json", "unet/config.json", "tokenizer/tokenizer.json"} <= served
    assert not [path for path in served if path.endswith((".safetensors", ".bin"))]


def test_a_file_of_the_network_alone_says_that_it_needs_a_folder_with_the_rest(downloads: Downloads) -> None:
    reason = downloads.online["file of the network"]
    assert "flux.safetensors has no weights of the text_encoder" in reason and "config = " in reason


def test_what_the_hub_does_not_give_is_refused_with_its_reason(downloads: Downloads) -> None:
    assert "Repository Not Found" in downloads.online["no such model"]
    assert "revision v9" in downloads.online["no such revision"]
    assert "Revision Not Found" in downloads.online["no such revision"]
    assert "Cannot access gated repo" in downloads.online["gated"]
