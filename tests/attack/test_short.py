"""The short forms of ``make attack`` and ``make fuzz``."""

from pathlib import Path

from tests.attack.__main__ import MIB, SHORT, run


def test_attacks_cost_little_and_bystanders_do_not_notice(tmp_path: Path) -> None:
    tolls = run(list(SHORT), 100, seed=1, folder=tmp_path)
    assert len(tolls) == len(SHORT) + 1
    for toll in tolls:
        assert not toll.failures, toll
        assert toll.jobs >= 1
        assert toll.cpu_s < 20, toll
        assert toll.peak_bytes < 500 * MIB, toll
