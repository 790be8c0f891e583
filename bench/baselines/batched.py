"""The naive server with LitServe's dynamic batching: ``python -m bench.baselines.batched``.

LitServe collects up to ``--batch`` requests or waits ``--wait-ms``, runs them as one batch from start to end, and only
then looks at the next ones. Its workers get JSON, so pictures travel as base64.
"""

import argparse
import base64
import io
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import litserve
from fastapi import Response
from PIL import Image

from bench.baselines.pipeline import Pipeline
from bench.served_model import ServedModel, add_options, from_options


@dataclass(frozen=True)
class Order:
    prompt: str
    image: Image.Image
    mask: Image.Image
    seed: int
    steps: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """What a batch must share."""
        return (*self.image.size, self.steps)


class InpaintAPI(litserve.LitAPI):  # type: ignore[misc]
    served = ServedModel()

    def setup(self, device: str) -> None:
        self.painter = Pipeline(self.served)

    def decode_request(self, request: dict[str, Any]) -> Order:
        image, mask = (Image.open(io.BytesIO(base64.b64decode(request[name]))) for name in ("image", "mask"))
        steps = int(request["num_inference_steps"])
        return Order(request["prompt"], image.convert("RGB"), mask.convert("L"), int(request["seed"]), steps)

    def batch(self, inputs: list[Order]) -> list[Order]:
        return inputs

    def predict(self, x: list[Order] | Order) -> Any:
        """Results in the order of ``x``; requests of other shapes run as batches of their own."""
        if isinstance(x, Order):
            return self._paint([x])[0]
        painted: dict[int, Image.Image] = {}
        order = sorted(range(len(x)), key=lambda index: x[index].shape)
        for _, same in groupby(order, key=lambda index: x[index].shape):
            indices = list(same)
            painted.update(zip(indices, self._paint([x[index] for index in indices]), strict=True))
        return [painted[index] for index in range(len(x))]

    def _paint(self, orders: list[Order]) -> list[Image.Image]:
        return self.painter.paint(
            [order.prompt for order in orders],
            [order.image for order in orders],
            [order.mask for order in orders],
            [order.seed for order in orders],
            orders[0].steps,
        )

    def unbatch(self, output: list[Image.Image]) -> list[Image.Image]:
        return output

    def encode_response(self, output: Image.Image) -> Response:
        buffer = io.BytesIO()
        output.save(buffer, "PNG")
        return Response(buffer.getvalue(), media_type="image/png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--wait-ms", type=float, default=20.0)
    add_options(parser)
    chosen = parser.parse_args()
    api = InpaintAPI(max_batch_size=chosen.batch, batch_timeout=chosen.wait_ms / 1000, api_path="/inpaint")
    api.served = from_options(chosen)  # which says the device too: LitServe's own choice would only be a second one
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=chosen.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
