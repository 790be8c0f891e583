"""Requests to the web UI's API as the GIMP, Photoshop, Lemon Zest and openOutpaint clients write them."""

import json
import re
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from tests.e2e.edits import Pixels, opened
from tests.e2e.img2img import BLUR_PX, IMG2IMG, WEB, ask, assert_exact, in_base64
from tests.e2e.stack import MASK, PHOTO
from tests.factories import png

GIMP = {  # stable-gimpfusion: no mask_blur, no inpainting_fill, a query mark behind the address
    "prompt": "a boat", "negative_prompt": "", "steps": 2, "cfg_scale": 7.5, "width": 512, "height": 512,
    "denoising_strength": 0.8, "sampler_index": "Euler a", "seed": -1, "inpaint_full_res_padding": 10,
    "inpaint_full_res": True, "alwayson_scripts": {"controlnet": {"args": []}},
}  # fmt: skip
PHOTOSHOP = {  # its own store beside the fields, a seed as text
    "prompt": "a boat", "seed": "-1", "steps": 2, "inpainting_fill": 1, "mask_blur": 0, "inpaint_full_res": False,
    "width": 512, "height": 512, "denoising_strength": 0.9, "sampler_index": "Euler a", "cfg_scale": "7",
    "selection_mode": "ratio", "uniqueDocumentId": "d7e2", "enable_hr": False, "restore_faces": False, "styles": [],
}  # fmt: skip
LEMON_ZEST = {
    "prompt": "a boat", "negative_prompt": "", "steps": 2, "cfg_scale": 1.0, "denoising_strength": 0.75, "seed": 4,
    "width": 512, "height": 512, "inpaint_full_res": True, "inpaint_full_res_padding": 96,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "address", "reach_px"),
    [(GIMP, f"{IMG2IMG}?", BLUR_PX), (PHOTOSHOP, IMG2IMG, 0), (LEMON_ZEST, f"{IMG2IMG}/", BLUR_PX)],
    ids=["GIMP", "Photoshop", "Lemon Zest"],
)
def test_requests_of_other_clients_are_honoured(
    client: httpx.Client, photo: Pixels, hole: Pixels, fields: dict[str, Any], address: str, reach_px: int
) -> None:
    pictures = {"init_images": [in_base64(PHOTO.read_bytes())], "mask": in_base64(MASK.read_bytes())}
    found = client.post(address, json=pictures | fields).json()
    assert_exact(found["images"][0], photo, hole, reach_px)
    info = json.loads(found["info"])
    assert info["all_seeds"] == [info["seed"]] and f"Seed: {info['seed']}" in info["infotexts"][0]


def test_photoshop_finds_the_seed_in_the_picture(client: httpx.Client) -> None:
    """Its first call, what it polls, and how it reads the seed of what it has received."""
    assert client.post("/sdapi/v1/options", json={"inpainting_mask_weight": 1.0}).content == b"null"
    idle = client.get("/sdapi/v1/progress?skip_current_image=false").json()
    assert (idle["progress"], idle["current_image"]) == (0.0, None)
    found = ask(client, **PHOTOSHOP)
    told = client.post("/sdapi/v1/png-info", json={"image": WEB + found["images"][0]}).json()
    assert re.search(r"Seed: (\d+)", told["info"])[1] == str(json.loads(found["info"])["seed"])  # type: ignore[index]


def test_a_canvas_on_which_the_hole_is_drawn_is_read_by_what_is_opaque(
    client: httpx.Client, photo: Pixels, hole: Pixels
) -> None:
    """openOutpaint's mask: white where painted, transparent elsewhere; with its own scripts switched off."""
    canvas = np.dstack([np.full_like(photo, 255), hole])
    found = ask(
        client, init_images=[in_base64(PHOTO.read_bytes(), WEB)], mask=in_base64(png(canvas), WEB), mask_blur=0,
        inpaint_full_res=False, inpainting_fill=1, sampler_index="DDIM", hr_scale=2, restore_faces=False,
        alwayson_scripts={"Soft Inpainting": {"args": [False, 1, 0.5]}, "ADetailer": {"args": [False]}},
    )  # fmt: skip
    assert_exact(found["images"][0], photo, hole)
    assert json.loads(found["info"])["extra_generation_params"]["Ignored"] == "hr_scale"


def test_openoutpaint_sets_options_with_a_slash_and_paints_softly(
    client: httpx.Client, photo: Pixels, hole: Pixels
) -> None:
    assert client.post("/sdapi/v1/options/", json={"sd_model_checkpoint": "pocket"}).content == b"null"
    soft = cv2.blur(hole, (33, 33))
    canvas = np.dstack([np.full_like(photo, 255), soft])
    found = ask(
        client, init_images=[in_base64(PHOTO.read_bytes(), WEB)], mask=in_base64(png(canvas), WEB), mask_blur=0,
        inpaint_full_res=False, inpainting_fill=2, sampler_index="DDIM", hr_upscaler="None", hr_resize_x=0,
        alwayson_scripts={"Soft Inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}},
    )  # fmt: skip
    result = opened(found["images"][0])
    assert (result[soft == 0] == photo[soft == 0]).all() and (result[soft == 255] != photo[soft == 255]).any()
    notes = json.loads(found["info"])["extra_generation_params"]
    assert notes["Soft inpainting"] == "by the mask's own grey values"
    assert client.post("/sdapi/v1/interrupt").status_code == 200
