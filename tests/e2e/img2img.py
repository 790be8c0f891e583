"""Calls of the web UI's img2img about the sample photo, and what they may change."""

import base64
import io
from typing import Any

import cv2
import httpx
import numpy as np
from PIL import Image

from tests.e2e.edits import Pixels, opened
from tests.e2e.stack import MASK, PHOTO

IMG2IMG = "/sdapi/v1/img2img"
QUICK = {"steps": 2, "denoising_strength": 1, "sampler_index": "Euler a"}
WEB = "data:image/png;base64,"
BLUR_PX = 10
"""How far the default blur of sigma 4 reaches."""


def in_base64(data: bytes, head: str = "") -> str:
    return head + base64.b64encode(data).decode()


def body(**fields: Any) -> dict[str, Any]:
    return {"init_images": [in_base64(PHOTO.read_bytes())], "mask": in_base64(MASK.read_bytes())} | QUICK | fields


def ask(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    answer = client.post(IMG2IMG, json=body(**fields))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def image_in(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


def assert_exact(text: str, photo: Pixels, hole: Pixels, reach_px: int = 0) -> None:
    """No pixel has changed that lies further from the hole than ``reach_px``."""
    result, size = opened(text), 2 * reach_px + 1
    touched = cv2.dilate(hole, np.ones((size, size), np.uint8)) > 0
    assert result.shape == photo.shape and (result[~touched] == photo[~touched]).all()
    assert (result[hole == 255] != photo[hole == 255]).any()
