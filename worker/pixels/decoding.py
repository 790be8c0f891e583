"""A job's uploads as pixels: in this process, or in a child that may be killed (``jobs/sandbox``)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jobs.errors import Undecodable
from jobs.sandbox.errors import Limits, SandboxError
from jobs.sandbox.pool import Sandbox
from jobs.schema import BitDepth, InputName, MetadataChoice, OutputColor, PictureReport
from worker.pixels import pictures
from worker.pixels.pictures import Picture, Pixels

Inputs = Mapping[InputName, bytes]

Decode = Callable[[Inputs, OutputColor, MetadataChoice, BitDepth], tuple[Picture, Pixels]]
"""Image and mask, the colours, metadata and depth wanted -> the picture, and the uploaded mask (H, W).

Raises Undecodable.
"""

LIMITS = Limits(cpu_s=60, wall_s=300, memory_bytes=3 * 2**30, input_bytes=512 * 2**20, output_bytes=1280 * 2**20)
"""Of one job. The API has checked its size; the largest that it can take, 89 megapixels, fits."""
WAIT_S = 600.0


def decode_here(
    inputs: Inputs, output_color: OutputColor, metadata: MetadataChoice = "keep", bit_depth: BitDepth = "8"
) -> tuple[Picture, Pixels]:
    return pictures.decode(inputs["image"], output_color, metadata, bit_depth), pictures.decode_mask(inputs["mask"])


def decode_in_child(buffers: Sequence[memoryview], arguments: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """What a child does: ``decode_here``, as buffers."""
    inputs: Inputs = {"image": bytes(buffers[0]), "mask": bytes(buffers[1])}
    picture, mask = decode_here(inputs, arguments["output_color"], arguments["metadata"], arguments["bit_depth"])
    layers = [picture.rgb, *([] if picture.alpha is None else [picture.alpha]), np.ascontiguousarray(mask)]
    described = {
        "wide": None if picture.wide is None else picture.wide.shape,
        "shapes": [layer.shape for layer in layers],
        "chunks": [kind.decode("latin-1") for kind, _ in picture.chunks],
        "grey": picture.grey,
        "report": picture.report.model_dump(mode="json"),
    }
    wide = [] if picture.wide is None else [picture.wide]
    return described, [*wide, *layers, *(content for _, content in picture.chunks), picture.xmp]


class Decoders:
    """A ``Decode`` in child processes, as many as threads will ask at once. Whatever a file does, it ends there."""

    def __init__(self, children: int, limits: Limits = LIMITS) -> None:
        self._sandbox = Sandbox("worker.pixels.decoding:decode_in_child", children, limits)

    def __call__(
        self,
        inputs: Inputs,
        output_color: OutputColor,
        metadata: MetadataChoice = "keep",
        bit_depth: BitDepth = "8",
    ) -> tuple[Picture, Pixels]:
        wanted = {"output_color": output_color, "metadata": metadata, "bit_depth": bit_depth}
        try:
            answer = self._sandbox.call([inputs["image"], inputs["mask"]], wanted, WAIT_S)
        except SandboxError as error:
            raise Undecodable("The uploads cannot be decoded with the time and memory that are allowed.") from error
        described, (*buffers, xmp) = answer.value, answer.buffers
        wide = described["wide"] and np.frombuffer(buffers.pop(0), np.uint16).reshape(described["wide"])
        layers = [np.frombuffer(buffers.pop(0), np.uint8).reshape(shape) for shape in described["shapes"]]
        chunks = zip(described["chunks"], buffers, strict=True)
        picture = Picture(
            rgb=layers[0],
            alpha=layers[1] if len(layers) == 3 else None,
            grey=described["grey"],
            chunks=tuple((kind.encode("latin-1"), bytes(content)) for kind, content in chunks),
            report=PictureReport.model_validate(described["report"]),
            xmp=bytes(xmp),
            wide=wide,
        )
        return picture, layers[-1]

    def close(self) -> None:
        self._sandbox.close()
