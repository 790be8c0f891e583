"""Models from every kind of source, by the worker's settings, and what is said of those that cannot be loaded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file

from jobs.errors import BadModel
from tests.worker import tiny
from tests.worker.ldm import save_single_file
from tests.worker.loads import assert_same, entry, load, settings
from tests.worker.published_sizes import two_text_encoders
from tests.worker.runs import canvas, parameters, run_alone
from tests.worker.tiny_schedulers import DIFFUSION_SCHEDULERS
from worker.families.latent_diffusion import LatentDiffusion
from worker.models.loading import Loader, automatic_device, bring, half_dtype, networks, pick_dtype

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of the ``sd`` family, 9 input channels."""
    made = tmp_path_factory.mktemp("models") / "sd"
    tiny.pipeline("sd", "concat", "ddim").save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def single_file(folder: Path) -> Path:
    file = folder.parent / "sd.safetensors"
    save_single_file(tiny.pipeline("sd", "concat", "ddim"), file)
    return file


@pytest.fixture(scope="module")
def configs(folder: Path) -> Path:
    """The same folder without its weights."""
    return Path(shutil.copytree(folder, folder.parent / "configs", ignore=shutil.ignore_patterns("*.safetensors")))


# ---- sources


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_folder_of_each_family_is_loaded(tmp_path: Path, family: str) -> None:
    known = tiny.FAMILIES[family]
    for mode in known.pipelines:
        pipeline = tiny.pipeline(family, mode, next(iter(known.schedulers)))
        pipeline.save_pretrained(tmp_path / mode)
        loaded = load(tmp_path / mode, family, scheduler=next(iter(known.schedulers)))
        assert (type(loaded), loaded.mode.name) == (known.family, mode)


def test_a_single_file_in_the_published_naming_is_the_same_model_as_the_folder(
    folder: Path, single_file: Path, configs: Path
) -> None:
    assert_same(load(single_file, config=str(configs)), load(folder))


def test_a_single_file_of_sdxl_is_the_same_model_as_the_folder(tmp_path: Path) -> None:
    pipeline = two_text_encoders()
    pipeline.save_pretrained(tmp_path / "folder")
    save_single_file(pipeline, tmp_path / "xl.safetensors")
    shutil.copytree(tmp_path / "folder", tmp_path / "configs", ignore=shutil.ignore_patterns("*.safetensors"))
    single = load(tmp_path / "xl.safetensors", "sdxl", config=str(tmp_path / "configs"))
    assert_same(single, load(tmp_path / "folder", "sdxl"))


def test_the_embedded_model_is_loaded() -> None:
    assert load("embedded").mode.name == "fill"


HUB = """
import sys
from tests.worker.loads import load
from jobs.errors import BadModel
for source, fields in [("org/here", {}), ("org/here", {"revision": "v1"}), ("org/gone", {}), (sys.argv[1], {})]:
    try:
        print("loaded", load(source, **fields).mode.name)
    except BadModel as error:
        print("BadModel", error)
"""


def test_the_hubs_cache_serves_without_a_network_and_what_is_not_in_it_is_explained(
    folder: Path, tmp_path: Path
) -> None:
    """A process of its own: the hub's client reads its environment when it is imported."""
    cache = tmp_path / "models--org--here"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "snapshots" / ("a" * 40)).symlink_to(folder)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    published = tmp_path / "v2.safetensors"
    save_file({"model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": V2}, published)
    env = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    shown = subprocess.run(
        [sys.executable, "-c", HUB, str(published)], env=env, capture_output=True, text=True, check=True, timeout=300
    )
    here, other_revision, gone, file = shown.stdout.splitlines()
    assert here == "loaded concat"
    assert "org/here at revision v1 is not in the hub's cache here and cannot be downloaded" in other_revision
    assert "org/gone is not in the hub's cache" in gone and "hf download org/gone" in gone
    assert "the configs of stabilityai/stable-diffusion-2-1 cannot be had" in file and "config = " in file


V2 = torch.zeros(320, 1024)


# ---- what cannot be loaded


def test_a_folder_of_another_family_says_what_it_is(tmp_path: Path) -> None:
    tiny.pipeline("sdxl", "recompose", "ddim").save_pretrained(tmp_path)
    with pytest.raises(BadModel, match=r"holds a sdxl model .*the catalog says family 'sd'"):
        load(tmp_path)


def test_a_single_file_of_another_family_says_what_it_is(tmp_path: Path, configs: Path) -> None:
    file = tmp_path / "xl.safetensors"
    save_file({"conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": torch.zeros(4)}, file)
    with pytest.raises(BadModel, match="a checkpoint of the kind 'xl_base'; the catalog says family 'sd'"):
        load(file, config=str(configs))


def test_a_single_file_of_a_family_that_diffusers_reads_none_of_is_refused(single_file: Path) -> None:
    with pytest.raises(BadModel, match="no single files of family 'qwen-image'; name a diffusers folder"):
        load(single_file, "qwen-image", scheduler="flow_euler")


def test_a_network_of_another_purpose_says_how_many_channels_it_takes(tmp_path: Path) -> None:
    tiny.sd(8, DIFFUSION_SCHEDULERS["ddim"]()).save_pretrained(tmp_path)
    with pytest.raises(BadModel, match="takes 8 "):
        load(tmp_path)


def test_a_single_file_of_another_channel_count_than_its_configs_is_refused(tmp_path: Path, configs: Path) -> None:
    file = tmp_path / "four.safetensors"
    save_single_file(tiny.pipeline("sd", "recompose", "ddim"), file)
    with pytest.raises(BadModel, match="conv_in"):
        load(file, config=str(configs))


@pytest.mark.parametrize(
    ("source", "reason"),
    [("/gone", "no diffusers folder"), ("/gone.safetensors", "There is no file"), ("gone", "no diffusers folder")],
)
def test_what_is_not_there_is_named(source: str, reason: str) -> None:
    with pytest.raises(BadModel, match=reason):
        load(source)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, single_file: Path, configs: Path) -> None:
    file = tmp_path / "short.safetensors"
    file.write_bytes(single_file.read_bytes()[:-1000])
    with pytest.raises(BadModel, match="tiny"):
        load(file, config=str(configs))


def test_a_folder_that_lacks_a_part_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    with pytest.raises(BadModel, match="tiny"):
        load(tmp_path)


# ---- settings


def test_the_catalogs_dtype_wins_over_the_setting_and_the_setting_over_the_devices(folder: Path) -> None:
    cuda = torch.device("cuda")
    assert pick_dtype(entry(folder), settings(), CPU) == torch.float32
    assert pick_dtype(entry(folder), settings(), cuda) == torch.bfloat16
    assert pick_dtype(entry(folder), settings(dtype="float16"), cuda) == torch.float16
    assert pick_dtype(entry(folder, dtype="float32"), settings(dtype="float16"), cuda) == torch.float32
    assert load(folder, dtype="bfloat16").dtype == torch.bfloat16


def test_the_size_is_that_of_the_weights(folder: Path) -> None:
    read = Loader(settings()).read_pipeline("tiny", entry(folder))
    half = Loader(settings()).read("tiny", entry(folder, dtype="float16"))
    count = sum(part.numel() for network in networks(read.pipeline) for part in network.parameters())
    assert 4 * count <= read.size_bytes < 4 * count + 1000  # buffers: position ids
    assert half.size_bytes < 0.51 * read.size_bytes


def calls_of(network: torch.nn.Module) -> list[int]:
    """Rows of each call from now on."""
    rows: list[int] = []
    network.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    return rows


def painted(family: LatentDiffusion, **fields: int) -> Any:
    wanted = parameters("ddim", 1.0, guidance=1.0).model_copy(update={"num_inference_steps": 2, **fields})
    states = run_alone(family, wanted, canvas())
    return family.finish(states)


def test_the_vae_works_tile_by_tile_where_the_setting_says_so(folder: Path) -> None:
    whole, tiled = load(folder), load(folder, worker=settings(vae_tiling=True))
    counts = [(calls_of(family.vae.encoder), calls_of(family.vae.decoder)) for family in (whole, tiled)]
    assert painted(whole).shape == painted(tiled).shape
    (encoded, decoded), (encoded_tiles, decoded_tiles) = counts
    assert len(encoded_tiles) > len(encoded) and len(decoded_tiles) > len(decoded)


def test_the_vae_works_image_by_image_where_the_setting_says_so(folder: Path) -> None:
    together, apart = load(folder), load(folder, worker=settings(vae_slicing=True))
    rows = [calls_of(family.vae.decoder) for family in (together, apart)]
    assert abs(painted(together, n=2).astype(int) - painted(apart, n=2)).max() <= 1
    assert rows == [[2], [1, 1]]


@pytest.mark.parametrize("cache_interval", [1, 2])
def test_an_offloaded_model_paints_the_same_though_nobody_calls_its_pipeline(folder: Path, cache_interval: int) -> None:
    """accelerate's hooks at work, with the CPU in the part of the GPU."""
    read = Loader(settings()).read_pipeline("tiny", entry(folder))
    bring(read.pipeline, CPU, "model")
    family = type(load(folder))("tiny", read.pipeline)
    assert (
        painted(family, cache_interval=cache_interval) == painted(load(folder), cache_interval=cache_interval)
    ).all()


@pytest.mark.parametrize("cache_interval", [1, 2])
def test_a_model_offloaded_layer_by_layer_paints_the_same(folder: Path, cache_interval: int) -> None:
    """As ``enable_sequential_cpu_offload`` does it, which itself takes no CPU in the part of the GPU."""
    read = Loader(settings()).read_pipeline("tiny", entry(folder))
    for network in networks(read.pipeline):
        cpu_offload(network, CPU, offload_buffers=len(network._parameters) > 0)
    family = type(load(folder))("tiny", read.pipeline)
    assert family.network.device.type == "meta"
    assert (
        painted(family, cache_interval=cache_interval) == painted(load(folder), cache_interval=cache_interval)
    ).all()


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offload_on_a_cpu_stops_the_start(offload: Any) -> None:
    with pytest.raises(BadModel, match=f"INFILL_OFFLOAD={offload} needs a GPU"):
        Loader(settings(offload=offload))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_pickles_are_refused_by_name_unless_they_are_allowed(
    folder: Path, tmp_path: Path, part: str
) -> None:
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (file,) = (pickled / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    torch.save(load_file(file), pickled / part / name)
    assert load(pickled), "the other file is there, too"
    file.unlink()
    with pytest.raises(BadModel, match=rf"{part}/{name} is a pickle.*allow_pickle = true"):
        load(pickled)
    assert load(pickled, allow_pickle=True)


def test_a_config_folder_of_a_single_file_is_held_to_the_same(folder: Path, tmp_path: Path, single_file: Path) -> None:
    pickled = Path(shutil.copytree(folder, tmp_path / "pickled"))
    (file,) = (pickled / "vae").glob("*.safetensors")
    torch.save(load_file(file), pickled / "vae" / "diffusion_pytorch_model.bin")
    file.unlink()
    network = tmp_path / "network.safetensors"
    kept = {name: tensor for name, tensor in load_file(single_file).items() if "first_stage_model" not in name}
    save_file(kept, network)
    with pytest.raises(BadModel, match=r"diffusion_pytorch_model\.bin is a pickle"):
        load(network, config=str(pickled))
    assert load(network, config=str(pickled), allow_pickle=True)


@pytest.mark.parametrize(
    ("build", "usable", "present", "device"),
    [
        (None, False, True, "cpu"),
        ("CUDA", False, False, "cpu"),
        ("CUDA", True, True, "cuda"),
        ("ROCm", True, True, "cuda"),
    ],
)
def test_auto_takes_the_gpu_that_torch_can_use(build: str | None, usable: bool, present: bool, device: str) -> None:
    assert automatic_device(build, usable, present).type == device


def test_auto_does_not_take_the_cpu_beside_a_gpu_that_torch_cannot_use() -> None:
    with pytest.raises(BadModel, match=r"INFILL_DEVICE=auto: this machine has a GPU that torch \(CUDA\) cannot use"):
        automatic_device("CUDA", usable=False, present=True)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16), (None, torch.bfloat16)],
)
def test_auto_is_float16_on_cards_that_emulate_bfloat16(capability: tuple[int, int] | None, dtype: torch.dtype) -> None:
    assert half_dtype(capability) == dtype
