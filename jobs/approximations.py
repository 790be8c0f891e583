"""What a request gives up of its model's best result for speed: in every response, never chosen by the service."""

from jobs.errors import InvalidField
from jobs.families import FAMILIES, Family
from jobs.outputs import is_lossless
from jobs.regions import Region
from jobs.schema import Approximation, InpaintParameters

SHALLOW_SHARE = 0.1
"""What a call that reuses features costs of a full one: ``bench.gpu.variants`` prints it."""


def approximations_of(
    parameters: InpaintParameters, usual_steps: int, region: Region | None = None, tiles: int = 0
) -> list[Approximation]:
    """How the result will be less than the model's best.

    Args:
        usual_steps: the model's default number.
        region: what is run first.
        tiles: how many are run over it at native pixels.
    """
    given_up: dict[Approximation, bool] = {
        "fewer_steps": parameters.num_inference_steps < usual_steps,
        "cached_features": parameters.cache_interval > 1,
        "shrunk": region is not None and region.scale < 1 and not tiles,
        "lossy_format": not is_lossless(parameters.output_format, parameters.output_quality),
    }
    return [name for name, true in given_up.items() if true]


def check_caching(cache_interval: int, family: Family) -> None:
    """Raise InvalidField where features are to be kept and the family has none to keep."""
    if cache_interval > 1 and not FAMILIES[family].caches_features:
        families = " and ".join(name for name, facts in FAMILIES.items() if facts.caches_features)
        raise InvalidField(
            f"cache_interval: only models of the families {families} can reuse features; family {family!r} takes 1."
        )


def in_full_calls(calls: int, cache_interval: int) -> float:
    """What ``calls`` network calls cost, in full ones, if only one of ``cache_interval`` is a full one."""
    full = -(-calls // cache_interval)
    return full + SHALLOW_SHARE * (calls - full)
