"""What signing a result costs: ``python -m bench.signing``, with INFILL_C2PA_CERTIFICATES and INFILL_C2PA_KEY.

Results are noise, which no format makes small. "again": the upload has a manifest, which is checked and carried.
Processor time is that of the worker's process and of its child: read it where the machine is busy.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil

from bench.processor import used_s
from jobs.errors import BadCredentials
from jobs.schema import InpaintParameters
from worker.pixels.credentials import credentials_of
from worker.pixels.encoding import writer_of
from worker.pixels.signing import Signers, Statement
from worker.settings import WorkerSettings

SIDES_PX = (512, 2048)
SAMPLING = {"num_inference_steps": 20, "guidance_scale": 1.0, "strength": 1.0, "scheduler": "ddim"}


def main() -> None:
    from bench.record import Record, keep_option

    parser = argparse.ArgumentParser(prog="python -m bench.signing", description=__doc__, parents=[keep_option()])
    parser.add_argument("--calls", type=int, default=50)
    chosen = parser.parse_args()
    try:
        credentials = credentials_of(WorkerSettings())
    except BadCredentials as error:
        sys.exit(str(error))
    if credentials is None:
        sys.exit("Set INFILL_C2PA_CERTIFICATES and INFILL_C2PA_KEY; docs/marking.md makes a pair for trying it.")
    signers = Signers(credentials, 1)
    signers.check()
    (child,) = psutil.Process().children()
    head = ["result", "KB", "KB more", "wall ms", "processor ms", "again: KB more", "wall ms", "processor ms"]
    record = Record(head, notes=[f"{chosen.calls} calls, {credentials.algorithm}; wall times are p50."])
    for side in SIDES_PX:
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        for kind in ("png", "jpeg", "webp", "avif"):
            fields = {"model": "pocket", "seed": 1, "masked_content": "fill", "output_format": kind, **SAMPLING}
            parameters = InpaintParameters.model_validate(fields)
            file = writer_of(parameters, noise, ()).finish({"infill": "{}"})
            statement = Statement(parameters, kind, (0, 0, side, side))
            cells = [f"{side} x {side}, {kind}", f"{len(file) / 1e3:.0f}"]
            for upload in (b"", signers(file, b"", statement)[0]):
                signed, _ = signers(file, upload, statement)
                cells.append(f"{(len(signed) - len(file)) / 1e3:.1f}")
                cells += measured(lambda: signers(file, upload, statement), child.pid, chosen.calls)  # noqa: B023
            record.add(*cells)
    signers.close()
    record.finish(chosen.keep)


def measured(call: Callable[[], object], child: int, calls: int) -> list[str]:
    """Milliseconds of a call: elapsed, and of both processors."""
    walls, began_s = list[float](), used_s(child) + time.process_time()
    for _ in range(calls):
        started = time.perf_counter()
        call()
        walls.append(time.perf_counter() - started)
    spent_s = used_s(child) + time.process_time() - began_s
    return [f"{1e3 * statistics.median(walls):.1f}", f"{1e3 * spent_s / calls:.1f}"]


if __name__ == "__main__":
    main()
