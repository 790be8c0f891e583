"""What a request gives up for speed, and what that makes of its cost."""

import pytest

from jobs.approximations import approximations_of, check_caching, in_full_calls
from jobs.errors import InvalidField
from tests.jobs.submissions import PARAMETERS


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_inference_steps": 20}, []),
        ({"num_inference_steps": 21}, []),
        ({"num_inference_steps": 19}, ["fewer_steps"]),
        ({"num_inference_steps": 20, "cache_interval": 2}, ["cached_features"]),
        ({"num_inference_steps": 4, "cache_interval": 2}, ["fewer_steps", "cached_features"]),
        ({"num_inference_steps": 20, "output_format": "jpeg", "output_quality": 100}, ["lossy_format"]),
        ({"num_inference_steps": 20, "output_format": "webp", "output_quality": 99}, ["lossy_format"]),
        ({"num_inference_steps": 20, "output_format": "webp", "output_quality": 100}, []),
    ],
)
def test_what_is_given_up_is_named(fields: dict[str, int | str], named: list[str]) -> None:
    assert approximations_of(PARAMETERS.model_copy(update=fields), usual_steps=20) == named


def test_a_family_without_a_u_net_has_no_features_to_reuse() -> None:
    check_caching(1, "flux")
    check_caching(5, "sd")
    with pytest.raises(InvalidField, match="cache_interval: only models of the families sd and sdxl"):
        check_caching(2, "flux")


def test_calls_that_reuse_features_cost_a_tenth() -> None:
    assert in_full_calls(20, 1) == 20
    assert in_full_calls(20, 5) == pytest.approx(4 + 1.6)
    assert in_full_calls(7, 3) == pytest.approx(3 + 0.4)


def test_a_job_that_reuses_none_can_be_run_by_workers_that_know_of_no_such_field() -> None:
    assert "cache_interval" not in PARAMETERS.model_dump()
    assert PARAMETERS.model_copy(update={"cache_interval": 2}).model_dump()["cache_interval"] == 2
