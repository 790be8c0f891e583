"""LoRA through real processes: an adapter acts on its own request, and on no other's."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.e2e.pictures import pixels_of
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack, result_of, submit, wait_for

UNET = ROOT / "worker/pocket/model/unet/diffusion_pytorch_model.safetensors"
ASKED: dict[str, Any] = {"num_inference_steps": 5, "strength": 1, "seed": 1, "prompt": "red", "guidance_scale": 2}


def write(file: Path, seed: int, width: int = 0, kernel: tuple[int, ...] = ()) -> None:
    """A random adapter of rank 4 for the attention of the pocket model.

    ``width`` replaces the layers' own inputs; with a ``kernel`` it is one for convolutions, which those layers are not.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    with safe_open(UNET, "np") as weights:
        for name in weights.keys():  # noqa: SIM118
            if name.endswith((".to_q.weight", ".to_v.weight", ".to_out.0.weight")):
                layer = f"unet.{name.removesuffix('.weight')}"
                outputs, inputs = weights.get_slice(name).get_shape()
                down = rng.normal(size=(4, width or inputs)).astype(np.float32)
                up = rng.normal(size=(outputs, 4)).astype(np.float32) / np.float32(np.sqrt(inputs))
                tensors[f"{layer}.lora_A.weight"] = down.reshape(*down.shape, *kernel)
                tensors[f"{layer}.lora_B.weight"] = up.reshape(*up.shape, *kernel)
    save_file(tensors, file)


@pytest.fixture(autouse=True)
def folder(stack: Stack) -> Iterator[Path]:
    made = Path(stack.env["INFILL_LORA_DIR"])
    write(made / "one.safetensors", 1)
    write(made / "two.safetensors", 2)
    write(made / "wide.safetensors", 3, width=48)
    write(made / "strange.safetensors", 4, kernel=(1, 1))
    yield made
    for file in made.iterdir():
        file.unlink()


def asked(**scales: float) -> str:
    return json.dumps([{"name": name, "scale": scale} for name, scale in scales.items()])


def run(client: httpx.Client, loras: str = "") -> np.ndarray:
    job = submit(client, {"Prefer": "wait=60"}, loras=loras, **ASKED).json()
    return result(client, job)


def result(client: httpx.Client, job: dict[str, Any]) -> np.ndarray:
    assert job["status"] == "succeeded", job
    assert job["mask"]["changed_outside_mask"] == 0
    return pixels_of(result_of(client, job))


def test_an_adapter_changes_what_is_painted_and_nothing_else(client: httpx.Client) -> None:
    photo, mask = pixels_of(PHOTO.read_bytes()), pixels_of(MASK.read_bytes())
    plain, painted = run(client), run(client, asked(one=1.0))
    assert np.abs(painted[mask > 0].astype(int) - plain[mask > 0].astype(int)).mean() > 1
    assert (painted[mask == 0] == photo[mask == 0]).all()
    assert (run(client, asked(one=1.0)) == painted).all()
    assert (run(client, asked(one=0.0)) == plain).all()


def test_the_same_request_has_the_same_bytes_before_between_and_after_requests_with_adapters(
    client: httpx.Client,
) -> None:
    before, alone = run(client), run(client, asked(one=0.7, two=0.4))
    sets = [asked(one=1.0), "", asked(one=0.7, two=0.4), asked(two=-1.0)]
    together = [submit(client, loras=loras, **ASKED).json()["id"] for loras in sets]
    among = [result(client, wait_for(client, job_id)) for job_id in together]
    assert (among[1] == before).all()
    assert (among[2] == alone).all()
    assert len({image.tobytes() for image in among}) == len(sets)
    assert (run(client) == before).all()


def test_requests_with_the_same_adapters_in_any_order_share_a_batch(stack: Stack, client: httpx.Client) -> None:
    orders = [asked(one=1.0, two=0.5), asked(two=0.5, one=1.0)] * 2
    unguided = {**ASKED, "guidance_scale": 1}  # a pass of two rows is always allowed, whatever this machine gains by it
    (worker,) = stack.workers
    worker.send(signal.SIGSTOP)  # so that it finds all of them at once
    try:
        jobs = [submit(client, loras=loras, **unguided).json()["id"] for loras in orders]
    finally:
        worker.send(signal.SIGCONT)
    assert max(wait_for(client, job_id)["timings"]["batch_mean"] for job_id in jobs) > 1


def test_what_fits_is_known_once_a_worker_has_the_model(client: httpx.Client) -> None:
    found = {lora["name"]: lora for lora in client.get("/v1/loras").json()["loras"]}
    assert found["one"]["models"] == ["pocket"] and found["one"]["rank"] == 4
    assert found["wide"]["models"] == []
    problem = submit(client, loras=asked(wide=1.0), **ASKED)
    assert (problem.status_code, problem.json()["code"]) == (422, "lora_mismatch")
    assert "48 -> " in problem.json()["detail"]


def test_what_only_the_worker_can_tell_fails_its_own_job(client: httpx.Client) -> None:
    before = run(client)
    job = wait_for(client, submit(client, loras=asked(one=1.0, strange=1.0), **ASKED).json()["id"])
    assert (job["status"], job["attempt"], job["error"]["code"]) == ("failed", 1, "bad_lora")
    assert "'strange'" in job["error"]["message"]
    assert client.get(f"/v1/jobs/{job['id']}/images/0").status_code == 422
    assert (run(client) == before).all()


def test_an_adapter_that_is_replaced_acts_from_the_next_request_on(client: httpx.Client, folder: Path) -> None:
    first = run(client, asked(one=1.0))
    write(folder / "one.safetensors", 9)
    assert (run(client, asked(one=1.0)) != first).any()
