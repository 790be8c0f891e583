"""The passes of a job: the regions that it is run on, and the canvases of all but the first (``jobs/tiles.py``)."""

from jobs import tiles
from jobs.catalog import ModelEntry
from jobs.regions import SURROUNDINGS_PX, Box, Region, plan_region
from jobs.schema import InpaintParameters
from worker.pixels import masks, regions
from worker.pixels.canvas import Canvas, Pixels, shown_tile
from worker.pixels.painting import Painting
from worker.pixels.pictures import Picture


def planned(
    picture: Picture, mask: Pixels, bbox: Box, uploaded: Pixels, parameters: InpaintParameters, entry: ModelEntry
) -> list[Region]:
    """The region, widened until it holds something that is known, and the tiles that come after it.

    Args:
        mask: the effective one, (H, W).
        bbox: its bounding box.
        uploaded: as it was before growing and feathering: by it the API has counted the tiles.
    """
    size, padding_px, crop = picture.size, parameters.crop_padding, parameters.crop == "auto"
    region = plan_region(size, bbox, padding_px, crop, entry.sides)
    known = regions.known(mask, picture.alpha)
    while not regions.holds(known, region.box) and region.size != size:
        padding_px = 2 * padding_px + SURROUNDINGS_PX
        region = plan_region(size, bbox, padding_px, crop, entry.sides)
    if parameters.tiles is None or region.scale == 1:
        return [region]
    whole = masks.bounding_box(uploaded) or bbox
    found = tiles.tiles_of(parameters, entry, size, whole, tiles.cells_of(uploaded))
    if len(found) > parameters.tiles.count:  # by a catalog of smaller models than the API's
        return [region]
    return [region, *tiles.from_the_known(found, mask)]


def tile_canvases(picture: Picture, mask: Pixels, painting: Painting, tile: Region, count: int) -> list[Canvas]:
    """A tile's canvases, one for each of ``count`` images; ``mask`` is the effective one, (H, W)."""
    share, made = painting.share(tile.box), []
    for index in range(count):
        image, hidden = shown_tile(picture, mask, share, painting.layer(index, tile.box), tile)
        made.append(Canvas(image, hidden, start_filled=True, painted=True))
        _ = made[-1].start, made[-1].digests
    return made
