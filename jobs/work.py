"""What a job asks of a network, and what that costs at a worker's pace."""

from collections.abc import Sequence
from statistics import fmean

from pydantic import Field

from jobs.approximations import in_full_calls
from jobs.catalog import ModelEntry
from jobs.pace import Cost, Pace, Published, WorkerPace, pace_at
from jobs.regions import Box, Region, plan_region
from jobs.schedulers import network_calls
from jobs.schema import InpaintParameters


class Work(Published):
    """Settled at submission and kept beside the waiting job: it holds on whichever worker the job will run."""

    model: str
    area_px: int = Field(gt=0, description="Width times height of the canvas.")
    calls: float = Field(ge=1, description="Network calls for each image, counted in full ones.")
    rows: int = Field(ge=1, description="Rows of each of them, over all images.")
    images: int = Field(ge=1)


def region_of(parameters: InpaintParameters, entry: ModelEntry, size: tuple[int, int], bbox: Box) -> Region:
    """The part of the picture that a request will run.

    Args:
        parameters: the request, settled.
        entry: its model's entry in the catalog.
        size: the picture's width and height.
        bbox: the uploaded mask's bounding box; growing and feathering widen it.
    """
    reach = parameters.mask_grow + parameters.mask_feather
    left, top, right, bottom = bbox
    grown = (max(0, left - reach), max(0, top - reach), min(size[0], right + reach), min(size[1], bottom + reach))
    return plan_region(
        size, grown, parameters.crop_padding, parameters.crop == "auto", (entry.size_px, entry.max_size_px)
    )


def work_of(parameters: InpaintParameters, entry: ModelEntry, size: tuple[int, int], bbox: Box) -> Work:
    """What a request will ask; the arguments are those of ``region_of``."""
    width, height = region_of(parameters, entry, size, bbox).canvas
    return work_on(parameters, entry, width * height)


def work_on(parameters: InpaintParameters, entry: ModelEntry, area_px: int) -> Work:
    """What a request will ask of a network on a canvas of so many pixels."""
    made = network_calls(parameters.scheduler, parameters.num_inference_steps, parameters.strength)
    calls = in_full_calls(made, parameters.cache_interval)
    rows = parameters.n * (2 if guided(parameters, entry) else 1)
    return Work(model=parameters.model, area_px=area_px, calls=calls, rows=rows, images=parameters.n)


def guided(parameters: InpaintParameters, entry: ModelEntry) -> bool:
    """Whether guidance is computed from two rows an image.

    What is in a model's files is not known here: one that was distilled to be told its guidance is taken for two.
    """
    differ = parameters.prompt != parameters.negative_prompt
    return entry.family != "flux" and parameters.guidance_scale > 1 and differ


def cost_of(work: Work, measured: Sequence[Pace], share_done: float = 0.0, around: float = 1.0) -> Cost:
    """What work costs at a pace.

    Args:
        work: what is asked.
        measured: the paces of its model, at least one.
        share_done: the share of its network calls that has been made.
        around: the share of encoding and decoding that is left.
    """
    pace, calls = pace_at(measured, work.area_px), work.calls * (1 - share_done)
    around_s = around * work.images * pace.around_s
    return Cost(
        share_s=calls * work.rows * pace.row_s + around_s,
        alone_s=calls * pace.batch_s(work.rows) + around_s,
    )


def expected(work: Work, workers: Sequence[WorkerPace]) -> Cost | None:
    """What work costs on the average worker that has run its model; None if none has."""
    costs = [
        cost_of(work, worker.models[work.model]).times(worker.slowness) for worker in workers if work.model in worker
    ]
    if not costs:
        return None
    shares, alone = [cost.share_s for cost in costs], [cost.alone_s for cost in costs]
    return Cost(share_s=fmean(shares), alone_s=fmean(alone))
