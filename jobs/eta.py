"""What a job asks of a network, and what that costs at the workers' speeds. ``jobs/queue_eta.py`` predicts its end."""

from collections.abc import Sequence
from statistics import fmean

from pydantic import Field

from jobs.approximations import in_full_calls
from jobs.catalog import ModelEntry
from jobs.families import guided
from jobs.passes import asked_of
from jobs.regions import Box, Region, plan_region
from jobs.schedulers import network_calls
from jobs.schema import InpaintParameters
from jobs.speed import Cost, Published, Speed, WorkerSpeed, speed_at


class Workload(Published):
    """Computed at submission and kept beside the waiting job; it is the same on every worker."""

    model: str
    area_px: int = Field(gt=0, description="Width times height of the canvas.")
    calls: float = Field(ge=1, description="Network calls for each image, counted in full ones.")
    rows: int = Field(ge=1, description="Rows of each of them, over all images.")
    images: int = Field(ge=1)
    tiles: "Workload | None" = Field(None, description="Of the tiles that follow, with all their calls and images.")


def grown_box(parameters: InpaintParameters, size: tuple[int, int], bbox: Box) -> Box:
    """A mask's bounding box as growing and feathering widen it."""
    reach = parameters.mask_grow + parameters.mask_feather
    left, top, right, bottom = bbox
    return max(0, left - reach), max(0, top - reach), min(size[0], right + reach), min(size[1], bottom + reach)


def region_of(parameters: InpaintParameters, entry: ModelEntry, size: tuple[int, int], bbox: Box) -> Region:
    """The part of the picture that a request will run.

    Args:
        parameters: the request, resolved.
        entry: its model's entry in the catalog.
        size: the picture's width and height.
        bbox: the uploaded mask's bounding box; growing and feathering widen it.
    """
    box, crop = grown_box(parameters, size, bbox), parameters.crop == "auto"
    return plan_region(size, box, parameters.crop_padding, crop, entry.sides)


def workload_of(parameters: InpaintParameters, entry: ModelEntry, size: tuple[int, int], bbox: Box) -> Workload:
    """What a request will ask; the arguments are those of ``region_of``."""
    width, height = region_of(parameters, entry, size, bbox).canvas
    return workload_on(parameters, entry, width * height)


def workload_on(
    parameters: InpaintParameters, entry: ModelEntry, area_px: int, tiles: Sequence[Region] = ()
) -> Workload:
    """What a request will ask of a network on a canvas of so many pixels, and then of tiles."""
    made = network_calls(parameters.scheduler, parameters.num_inference_steps, parameters.strength)
    calls = in_full_calls(made, parameters.cache_interval)
    rows = parameters.n * (2 if guided(parameters, entry.family) else 1)
    work = Workload(model=parameters.model, area_px=area_px, calls=calls, rows=rows, images=parameters.n)
    return work.model_copy(update={"tiles": tiles_workload(parameters, entry, tiles)}) if tiles else work


def tiles_workload(parameters: InpaintParameters, entry: ModelEntry, tiles: Sequence[Region]) -> Workload | None:
    """What some of a request's tiles ask of a network; None if there are none."""
    if not tiles:
        return None
    width, height = tiles[0].canvas
    each, *others = asked_of(parameters, 1)
    one = workload_on(each, entry, width * height)
    images, count = 1 + len(others), len(tiles)
    return one.model_copy(update={"calls": one.calls * count, "rows": one.rows * images, "images": images * count})


def cost_of(work: Workload, measured: Sequence[Speed], share_done: float = 0.0, around: float = 1.0) -> Cost:
    """What work costs at a speed.

    Args:
        work: what is asked.
        measured: the speeds of its model, at least one.
        share_done: the share of its network calls that has been made; of its tiles' none.
        around: the share of encoding and decoding that is left; of its tiles all.
    """
    speed, calls = speed_at(measured, work.area_px), work.calls * (1 - share_done)
    codec_s = around * work.images * speed.codec_s
    then = cost_of(work.tiles, measured) if work.tiles else Cost(batched_s=0, alone_s=0)
    return Cost(
        batched_s=calls * work.rows * speed.row_s + codec_s + then.batched_s,
        alone_s=calls * speed.batch_s(work.rows) + codec_s + then.alone_s,
    )


def expected(work: Workload, workers: Sequence[WorkerSpeed]) -> Cost | None:
    """What work costs on the average worker that has run its model; None if none has."""
    costs = [
        cost_of(work, worker.models[work.model]).times(worker.slowdown) for worker in workers if work.model in worker
    ]
    if not costs:
        return None
    shares, alone = [cost.batched_s for cost in costs], [cost.alone_s for cost in costs]
    return Cost(batched_s=fmean(shares), alone_s=fmean(alone))
