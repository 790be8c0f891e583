"""What a network predicts: by the catalog's word, the file's marks, the configs, in this order."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from jobs.errors import BadModel
from tests.worker import tiny
from tests.worker.ldm import all_tensors
from tests.worker.loads import entry, load
from tests.worker.runs import canvas, parameters, run_alone
from tests.worker.tiny_schedulers import DIFFUSION_SCHEDULERS

ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
V_PRED, ZTSNR = {"v_pred": torch.tensor([])}, {"ztsnr": torch.tensor([])}
BOTH = V_PRED | ZTSNR


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose configs say that it predicts noise."""
    made = tmp_path_factory.mktemp("models") / "sd"
    pipeline = tiny.pipeline("sd", "recompose", "ddim")
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    pipeline.save_pretrained(made)
    return made


def marked(marks: dict[str, torch.Tensor], file: Path, **header: str) -> Path:
    save_file(all_tensors(tiny.pipeline("sd", "recompose", "ddim")) | marks, file, header)
    return file


def of(loaded: Any) -> tuple[str, bool, str]:
    config = loaded.pipeline.scheduler.config
    return config.prediction_type, config.rescale_betas_zero_snr, config.timestep_spacing


AS_CONFIGURED = ("epsilon", False, "leading")


@pytest.mark.parametrize(
    ("marks", "header", "said", "expected"),
    [
        ({}, {}, "auto", AS_CONFIGURED),
        (V_PRED, {}, "auto", ("v_prediction", False, "leading")),
        (BOTH, {}, "auto", ("v_prediction", True, "trailing")),
        ({"model.diffusion_model.v_pred": torch.tensor([])}, {}, "auto", ("v_prediction", False, "leading")),
        ({}, {"modelspec.prediction_type": "v"}, "auto", ("v_prediction", False, "leading")),
        (ZTSNR, {"modelspec.predict_key": "v"}, "auto", ("v_prediction", True, "trailing")),
        (ZTSNR, {}, "v_prediction", ("v_prediction", True, "trailing")),
        ({}, {}, "v_prediction", ("v_prediction", False, "leading")),
        (V_PRED, {}, "epsilon", AS_CONFIGURED),
        ({}, {"modelspec.prediction_type": "epsilon"}, "auto", AS_CONFIGURED),
        ({}, {"modelspec.prediction_type": "something"}, "auto", AS_CONFIGURED),
    ],
)
def test_the_catalogs_word_wins_over_the_files_marks_and_these_over_the_configs(
    marks: dict[str, torch.Tensor], header: dict[str, str], said: str, expected: Any, folder: Path, tmp_path: Path
) -> None:
    file = marked(marks, tmp_path / "file.safetensors", **header)
    assert of(load(file, config=str(folder), prediction_type=said)) == expected


@pytest.mark.parametrize("scheduler", DIFFUSION_SCHEDULERS)
def test_a_marked_file_paints_as_a_folder_whose_configs_say_the_same(
    scheduler: str, folder: Path, tmp_path: Path
) -> None:
    pipeline = tiny.pipeline("sd", "recompose", "ddim")
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, prediction_type="v_prediction", **ZERO_SNR
    )
    pipeline.save_pretrained(tmp_path / "folder")
    file = marked(BOTH, tmp_path / "file.safetensors")
    wanted = parameters(scheduler, 1.0).model_copy(update={"num_inference_steps": 3})
    single, whole, other = (
        run_alone(loaded, wanted, canvas())[0].latents
        for loaded in (load(file, config=str(folder)), load(tmp_path / "folder"), load(folder))
    )
    assert torch.equal(single, whole)
    assert not torch.allclose(single, other, rtol=0.1)


def test_a_folder_predicts_what_the_catalog_says(folder: Path) -> None:
    assert of(load(folder)) == AS_CONFIGURED
    assert of(load(folder, prediction_type="v_prediction")) == ("v_prediction", False, "leading")


@pytest.mark.parametrize("said", ["auto", "epsilon"])
def test_a_file_up_to_pure_noise_that_predicts_noise_is_refused(said: str, folder: Path, tmp_path: Path) -> None:
    file = marked(ZTSNR, tmp_path / "file.safetensors")
    with pytest.raises(BadModel, match=r"marked 'ztsnr'.* prediction_type = \"v_prediction\""):
        load(file, config=str(folder), prediction_type=said)


def test_the_catalog_says_it_for_networks_of_diffusion_only() -> None:
    assert entry("/folder").prediction_type == "auto"
    with pytest.raises(ValidationError, match="prediction_type: only for families sd and sdxl, not 'flux'"):
        entry("/folder", "flux", scheduler="flow_euler", prediction_type="v_prediction")
