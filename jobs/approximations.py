"""What a request gives up of its model's best result for speed: told in every response, never chosen by the service."""

from jobs.errors import InvalidField
from jobs.regions import Region
from jobs.schema import Approximation, InpaintParameters

CACHING_FAMILIES = ("sd", "sdxl")
"""Those with a U-Net, whose deep features can be kept from one network call to the next."""

SHALLOW_SHARE = 0.1
"""What a call that reuses features costs of a full one: ``bench.gpu.ways`` prints it."""


def approximations_of(
    parameters: InpaintParameters, usual_steps: int, region: Region | None = None
) -> list[Approximation]:
    """How the result will be less than the model's best. ``usual_steps``: the model's default number."""
    given_up: dict[Approximation, bool] = {
        "fewer_steps": parameters.num_inference_steps < usual_steps,
        "cached_features": parameters.cache_interval > 1,
        "shrunk": region is not None and region.scale < 1,
    }
    return [name for name, true in given_up.items() if true]


def check_caching(cache_interval: int, family: str) -> None:
    """Raise InvalidField where features are to be kept and the family has none to keep."""
    if cache_interval > 1 and family not in CACHING_FAMILIES:
        families = " and ".join(CACHING_FAMILIES)
        raise InvalidField(
            f"cache_interval: only models of the families {families} can reuse features; family {family!r} takes 1."
        )


def in_full_calls(calls: int, cache_interval: int) -> float:
    """What ``calls`` network calls cost, in full ones, if only one of ``cache_interval`` is a full one."""
    full = -(-calls // cache_interval)
    return full + SHALLOW_SHARE * (calls - full)
