"""The server everybody writes first: FastAPI, the pipeline, a lock, Pillow's PNG."""

import argparse
import io
import threading

import uvicorn
from fastapi import FastAPI, Form, Response, UploadFile
from PIL import Image

from bench.baselines.pipeline import Pipeline
from bench.served_model import add_options, from_options


def create_app(painter: Pipeline) -> FastAPI:
    """Decoding and PNG run on FastAPI's threads, beside the lock: more than most first servers do."""
    app = FastAPI()
    lock = threading.Lock()

    @app.get("/healthz")
    def health() -> str:
        return "ok"

    @app.post("/inpaint")
    def inpaint(
        image: UploadFile,
        mask: UploadFile,
        prompt: str = Form(""),
        seed: int = Form(0),
        num_inference_steps: int = Form(20),
    ) -> Response:
        photo, hole = Image.open(image.file).convert("RGB"), Image.open(mask.file).convert("L")
        with lock:
            (painted,) = painter.paint([prompt], [photo], [hole], [seed], num_inference_steps)
        buffer = io.BytesIO()
        painted.save(buffer, "PNG")
        return Response(buffer.getvalue(), media_type="image/png")

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    add_options(parser)
    chosen = parser.parse_args()
    uvicorn.run(create_app(Pipeline(from_options(chosen))), host="127.0.0.1", port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
