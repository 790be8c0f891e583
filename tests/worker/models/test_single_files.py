"""Single files of SD 3 and FLUX in their published naming, and what a folder lends to those that lack a part."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from jobs.errors import BadModel
from tests.worker import tiny
from tests.worker.ldm import save_single_file
from tests.worker.loads import assert_same, load
from tests.worker.published import all_tensors, network_tensors, save
from tests.worker.published_sizes import flux, folder_of, sd3, without
from tests.worker.runs import canvas, parameters, run_alone
from worker.families.latent_diffusion import LatentDiffusion
from worker.models.loading import networks

PUBLISHED: dict[str, Callable[[], tuple[str, Any]]] = {
    "sd3": lambda: ("sd3", sd3()),
    "sd35-large": lambda: ("sd3", sd3(qk_norm="rms_norm")),
    "sd35-medium": lambda: ("sd3", sd3(qk_norm="rms_norm", dual_attention_layers=(0,))),
    "flux-dev": lambda: ("flux", flux(64)),
    "flux-schnell": lambda: ("flux", flux(64, told_guidance=False)),
    "flux-fill": lambda: ("flux", flux(384)),
}


def read(source: Path, family: str, **fields: Any) -> LatentDiffusion:
    loaded: LatentDiffusion = load(source, family, scheduler="flow_euler", **fields)
    return loaded


def assert_paint_the_same(one: LatentDiffusion, other: LatentDiffusion) -> None:
    """But for rounding: weights are used where they lie in the file, which differs in where it places them."""
    wanted = parameters("flow_euler", 1.0, guidance=3.0).model_copy(update={"num_inference_steps": 2})
    first, second = (family.finish(run_alone(family, wanted, canvas())).astype(int) for family in (one, other))
    assert abs(first - second).max() <= 1


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_file_of_the_network_alone_takes_the_rest_from_the_folder(kind: str, tmp_path: Path) -> None:
    family, pipeline = PUBLISHED[kind]()
    folder = folder_of(pipeline, tmp_path / "folder")
    file = save(network_tensors(pipeline.transformer), tmp_path / "network.safetensors")
    single, whole = read(file, family, config=str(without("transformer", folder))), read(folder, family)
    assert_same(single, whole)
    assert_paint_the_same(single, whole)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("kind", ["sd35-medium", "flux-dev"])
@pytest.mark.parametrize("embeddings", ["once", "twice"])
def test_a_file_of_all_parts_takes_no_weights_from_the_folder(kind: str, embeddings: str, tmp_path: Path) -> None:
    """T5's embeddings have two names, and some files have both."""
    family, pipeline = PUBLISHED[kind]()
    folder = folder_of(pipeline, tmp_path / "folder")
    tensors = all_tensors(pipeline)
    if embeddings == "once":
        del tensors["text_encoders.t5xxl.transformer.encoder.embed_tokens.weight"]
    file = save(tensors, tmp_path / "all.safetensors")
    single, whole = read(file, family, config=str(without("*", folder))), read(folder, family)
    assert_same(single, whole)
    assert not any(part.training for part in networks(single.pipeline))
    assert_paint_the_same(single, whole)


def test_a_file_without_a_vae_takes_it_from_the_folder(tmp_path: Path) -> None:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    folder = folder_of(pipeline, tmp_path / "folder")
    save_single_file(pipeline, tmp_path / "sd.safetensors")
    tensors = load_file(tmp_path / "sd.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("first_stage_model.")}
    file = save(kept, tmp_path / "short.safetensors")
    assert_same(load(file, config=str(without("unet", folder))), load(folder))


@pytest.mark.usefixtures("narrow")
def test_a_file_of_eight_bit_floats_is_read_in_the_dtype_that_the_catalog_says(tmp_path: Path) -> None:
    pipeline = flux(64)
    for part in networks(pipeline):
        part.to(torch.float8_e4m3fn)
    file = save(all_tensors(pipeline), tmp_path / "all.safetensors")
    for part in networks(pipeline):
        part.bfloat16()
    folder = folder_of(pipeline, tmp_path / "folder")
    single = read(file, "flux", config=str(without("*", folder)), dtype="bfloat16")
    assert_same(single, read(folder, "flux", dtype="bfloat16"))


def test_a_network_of_the_published_width_is_read(tmp_path: Path) -> None:
    """One block of each kind of FLUX, 480 million weights: diffusers' reader as it is."""
    folder = folder_of(flux(64), tmp_path / "folder")
    sizes = {"num_attention_heads": 24, "attention_head_dim": 128, "axes_dims_rope": (16, 56, 56)}
    with torch.device("meta"):
        wide = FluxTransformer2DModel.from_config(
            {**FluxTransformer2DModel.load_config(folder / "transformer"), **sizes}
        )
    wide.save_config(folder / "transformer")
    some = torch.randn(2**20).bfloat16()  # drawing all would take longer than all the rest
    made = {
        name: some.roll(place).repeat(tensor.numel() // len(some) + 1)[: tensor.numel()].view(tensor.shape)
        for place, (name, tensor) in enumerate(wide.state_dict().items())
    }
    wide.load_state_dict(made, assign=True)
    file = tmp_path / "wide.safetensors"
    save_file(network_tensors(wide), file)
    loaded = read(file, "flux", config=str(folder), dtype="bfloat16").network.state_dict()
    file.unlink()  # a gigabyte, which pytest would keep for a while
    assert loaded.keys() == made.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in made.items())


# ---- what cannot be loaded

FLUX = {"double_blocks.0.img_attn.norm.key_norm.scale": (1,)}
GUIDED = FLUX | {"guidance_in.in_layer.bias": (1,)}
SD3 = {"joint_blocks.0.context_block.adaLN_modulation.1.bias": (9216,)}


@pytest.mark.parametrize(
    ("kind", "shapes"),
    [
        ("flux-schnell", FLUX),
        ("flux-dev", GUIDED | {"img_in.weight": (1, 64)}),
        ("flux-fill", GUIDED | {"img_in.weight": (1, 384)}),
        ("flux-depth", GUIDED | {"img_in.weight": (1, 128)}),
        ("sd3", SD3 | {"pos_embed": (1, 36864, 1)}),
        ("sd35_medium", SD3 | {"pos_embed": (1, 147456, 1)}),
        ("sd35_large", {"model.diffusion_model.joint_blocks.37.x_block.mlp.fc1.weight": (1,)}),
    ],
)
def test_a_file_for_another_family_says_of_which_kind_it_is(
    kind: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    file = save({name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / "file.safetensors")
    with pytest.raises(BadModel, match=f"a checkpoint of the kind '{kind}'; the catalog says family 'sdxl'"):
        load(file, "sdxl")


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("part", ["vae", "text_encoder_2"])
def test_what_neither_the_file_nor_the_folder_has_is_named(part: str, tmp_path: Path) -> None:
    pipeline = flux(64)
    folder = without(part, folder_of(pipeline, tmp_path / "folder"))
    file = save(network_tensors(pipeline.transformer), tmp_path / "network.safetensors")
    with pytest.raises(BadModel, match=rf"network.safetensors has no weights of the {part}, .*config = "):
        read(file, "flux", config=str(folder))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("told", "file_is", "configs_are"), [(True, "dev", "schnell"), (False, "schnell", "dev")])
def test_a_folder_of_the_other_flux_is_refused(told: bool, file_is: str, configs_are: str, tmp_path: Path) -> None:
    folder = folder_of(flux(64, not told), tmp_path / "folder")
    file = save(network_tensors(flux(64, told).transformer), tmp_path / "network.safetensors")
    with pytest.raises(BadModel, match=rf"like FLUX.1 {file_is}.*; the configs .* like {configs_are}"):
        read(file, "flux", config=str(folder))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("model.diffusion_model.img_in.bias", "img_in.bias"),
        (
            "text_encoders.t5xxl.transformer.encoder.final_layer_norm.weight",
            "not all the weights of the text_encoder_2",
        ),
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused(lost: str, named: str, tmp_path: Path) -> None:
    pipeline = flux(64)
    tensors = all_tensors(pipeline)
    del tensors[lost]
    file = save(tensors, tmp_path / "all.safetensors")
    with pytest.raises(BadModel, match=named):
        read(file, "flux", config=str(folder_of(pipeline, tmp_path / "folder")))


@pytest.mark.usefixtures("narrow")
def test_a_file_of_fewer_blocks_than_the_configs_tell_of_is_refused(tmp_path: Path) -> None:
    pipeline = flux(64)
    folder = folder_of(pipeline, tmp_path / "folder")
    file = save(network_tensors(pipeline.transformer), tmp_path / "network.safetensors")
    FluxTransformer2DModel.from_config({**pipeline.transformer.config, "num_layers": 2}).save_config(
        folder / "transformer"
    )
    with pytest.raises(BadModel, match="not all the weights that the configs"):
        read(file, "flux", config=str(folder))
