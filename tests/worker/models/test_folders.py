"""Folders whose weights are there as a variant alone, and files of kinds that are not read."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.errors import BadModel
from tests.worker import tiny
from tests.worker.ldm import save_single_file
from tests.worker.loads import assert_same, load


def folder_of(family: str, folder: Path, **saved: Any) -> Path:
    known = tiny.FAMILIES[family]
    pipeline = tiny.pipeline(family, next(iter(known.pipelines)), next(iter(known.schedulers)))
    pipeline.save_pretrained(folder, **saved)
    return folder


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("sharded", [False, True])
def test_a_folder_with_a_variant_alone_is_read(family: str, sharded: bool, tmp_path: Path) -> None:
    size = {"max_shard_size": "50KB"} if sharded else {}
    plain = folder_of(family, tmp_path / "plain")
    variant = folder_of(family, tmp_path / "variant", variant="fp16", **size)
    files = [file.name for file in variant.glob("*/*.safetensors")]
    assert files and all(".fp16" in name for name in files)
    assert any("-of-" in name for name in files) == sharded
    scheduler = next(iter(tiny.FAMILIES[family].schedulers))
    assert_same(load(variant, family, scheduler=scheduler), load(plain, family, scheduler=scheduler))


def test_plain_weights_are_preferred_part_by_part(tmp_path: Path) -> None:
    """The network has both, and differs; the VAE has the variant alone."""
    folder = folder_of("sd", tmp_path / "folder")
    half = tiny.pipeline("sd", "concat", "ddim")
    half.unet.conv_in.weight.data.zero_()
    half.unet.save_pretrained(folder / "unet", variant="fp16")
    (folder / "vae/diffusion_pytorch_model.safetensors").rename(folder / "vae/diffusion_pytorch_model.fp16.safetensors")
    assert_same(load(folder), load(folder_of("sd", tmp_path / "plain")))


def test_a_safety_checker_that_is_not_read_may_be_there_as_a_variant(tmp_path: Path) -> None:
    folder = folder_of("sd", tmp_path / "folder")
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker/model.fp16.safetensors").write_bytes(b"")
    assert load(folder).mode.name == "concat"


def test_a_single_file_takes_what_it_lacks_from_a_folder_with_a_variant_alone(tmp_path: Path) -> None:
    folder = folder_of("sd", tmp_path / "folder", variant="fp16")
    save_single_file(tiny.pipeline("sd", "concat", "ddim"), tmp_path / "file.safetensors")
    shutil.rmtree(folder / "unet")
    folder_of("sd", tmp_path / "whole")
    shutil.copytree(tmp_path / "whole/unet", folder / "unet", ignore=shutil.ignore_patterns("*.safetensors"))
    assert_same(load(tmp_path / "file.safetensors", config=str(folder)), load(tmp_path / "whole"))


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "model.pth", "model.bin", "model.pkl", "MODEL.CKPT"])
@pytest.mark.parametrize("folder", ["/models", "models", "~/models"])
@pytest.mark.parametrize("fields", [{}, {"config": "/configs"}])
def test_a_pickle_is_refused_by_name_with_what_to_do(folder: str, name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadModel, match=f"models/{name} is a pickle.* is not read. Convert it to .safetensors, or name"):
        load(f"{folder}/{name}", **fields)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    torch.save({"model.diffusion_model.out.2.bias": torch.zeros(4)}, tmp_path / "model.ckpt")
    with pytest.raises(BadModel, match=r"model\.ckpt is a pickle"):
        load(tmp_path / "model.ckpt")


@pytest.mark.parametrize("source", ["/models/flux1-dev-Q4_0.gguf", "city96/flux.gguf"])
def test_a_gguf_file_is_refused_by_name_with_what_to_do(source: str) -> None:
    with pytest.raises(
        BadModel, match=f"{source} is a GGUF file.* Convert it to .safetensors, or name a diffusers fol"
    ):
        load(source, "flux", scheduler="flow_euler")
