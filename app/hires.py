"""``hires``: whether a hole larger than its model's size is run once more in tiles (``jobs/tiles.py``)."""

from collections.abc import Sequence

from app.masks import DecodedMask
from app.uploads import Size
from jobs.catalog import ModelEntry
from jobs.errors import InvalidField
from jobs.regions import Region
from jobs.schema import Hires, InpaintParameters, Tiles
from jobs.tiles import tiles_of


def plan(
    asked: Hires | None, parameters: InpaintParameters, entry: ModelEntry, region: Region, size: Size, mask: DecodedMask
) -> Sequence[Region]:
    """The tiles of a request; none where ``region``, its first pass, is not shrunk, or where it does not ask for any
    and they are many.

    Raises InvalidField: it asks for more than its model allows.
    """
    if asked == "off" or region.scale == 1:
        return ()
    tiles = tiles_of(parameters, entry, size, mask.report.bbox, mask.cells)
    many = len(tiles) * parameters.n > entry.max_hires_tiles
    if asked is None:
        return () if many or len(tiles) > entry.hires_tiles else tiles
    if many:
        raise InvalidField(
            f"hires, n: the hole takes {len(tiles)} tiles of {entry.max_size_px} pixels for each of {parameters.n} "
            f"images, and model {parameters.model!r} runs at most {entry.max_hires_tiles} for a job. Mask less of the "
            "picture, send a smaller n or picture, or hires=off."
        )
    return tiles


def with_tiles(parameters: InpaintParameters, entry: ModelEntry, tiles: Sequence[Region]) -> InpaintParameters:
    """The parameters of a job that runs them. Tiles are never changed more than was asked of the whole."""
    if not tiles:
        return parameters
    strength = min(parameters.strength, entry.hires_strength)
    return parameters.model_copy(update={"tiles": Tiles(count=len(tiles), strength=strength)})
