"""The short form of ``make chaos``; a seed that ever failed gets a test of its own here."""

from pathlib import Path

from tests.e2e.chaos import run_chaos


def test_every_accepted_job_ends_once_whatever_dies(tmp_path: Path) -> None:
    tally = run_chaos(seed=3, jobs=15, folder=tmp_path)
    ended = tally["succeeded"] + tally["failed"] + tally["canceled"]
    assert ended == tally["accepted"] == 15
