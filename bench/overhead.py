"""What a request costs beside the network and the VAE: ``python -m bench.overhead``.

Starts the real service (Redis, API, one worker), sends one request after another and sets the caller's wall time
against the job's own account of it. Overhead is everything but ``text_encode``, ``vae_encode``, ``denoise`` and
``vae_decode``: upload, checks, queue, decoding, paste, PNG, store, and the answer on its way back.
"""

import argparse
import io
import statistics
import time

import httpx
import numpy as np
from PIL import Image

from bench.machine import describe
from bench.service import running_service

MODEL_PHASES = ("text_encode", "vae_encode", "denoise", "vae_decode")
NOT_PHASES = ("total", "steps", "step_p50", "batch_mean")


def photo_and_mask(size_px: int) -> tuple[bytes, bytes]:
    """A smooth picture with some grain (a PNG of a usual size) and a box mask over a sixth of it."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size_px, size_px), Image.Resampling.BICUBIC)).astype(int)
    photo = np.clip(smooth + rng.integers(-4, 5, smooth.shape), 0, 255).astype(np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[size_px // 4 : size_px * 3 // 5, size_px // 4 : size_px * 3 // 4] = 255
    return _png(photo), _png(mask)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def measure(url: str, size_px: int, requests: int, steps: int) -> tuple[list[float], list[dict[str, float]]]:
    """Wall times in ms, and the timings of each job; the first request is a warm-up and not counted."""
    photo, mask = photo_and_mask(size_px)
    walls, accounts = [], []
    with httpx.Client(base_url=url, timeout=300, trust_env=False) as client:
        for index in range(requests + 1):
            began = time.perf_counter()
            answer = client.post(
                "/v1/inpaint",
                files={"image": photo, "mask": mask},
                data={"seed": str(index), "num_inference_steps": str(steps)},
                headers={"Prefer": "wait=60"},
            )
            job = answer.raise_for_status().json()
            image = client.get(job["images"][0]["url"]).raise_for_status().content
            wall = (time.perf_counter() - began) * 1000
            assert job["mask"]["changed_outside_mask"] == 0 and image[:4] == b"\x89PNG"
            if index:
                walls.append(wall)
                accounts.append(job["timings"])
    return walls, accounts


def quantile(values: list[float], share: float) -> float:
    return float(np.quantile(values, share))


def report(walls: list[float], accounts: list[dict[str, float]]) -> str:
    model = [sum(account[phase] for phase in MODEL_PHASES) for account in accounts]
    overhead = [wall - spent for wall, spent in zip(walls, model, strict=True)]
    shares = [cost / wall for cost, wall in zip(overhead, walls, strict=True)]
    outside = [wall - account["total"] for wall, account in zip(walls, accounts, strict=True)]
    rows = [(phase, [a[phase] for a in accounts]) for phase in accounts[0] if phase not in NOT_PHASES]
    rows += [("http (upload, checks, answer, download)", outside), ("network and VAE", model), ("overhead", overhead)]
    lines = [f"{'':42}{'p50 ms':>10}{'p95 ms':>10}"]
    lines += [f"{name:42}{quantile(values, 0.5):10.1f}{quantile(values, 0.95):10.1f}" for name, values in rows]
    share = f"{statistics.median(shares):.1%} of the request (p50), {quantile(shares, 0.95):.1%} (p95)"
    return "\n".join([*lines, f"overhead is {share}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512, help="side of the photo in pixels")
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    with running_service() as url:
        walls, accounts = measure(url, arguments.size, arguments.requests, arguments.steps)
    print(describe())
    print(f"{arguments.requests} requests one after another, {arguments.size} px, {arguments.steps} steps")
    print(report(walls, accounts))


if __name__ == "__main__":
    main()
