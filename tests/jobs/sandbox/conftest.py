from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.sandbox.pool import Sandbox
from tests.jobs.sandbox.children import LIMITS, RUN


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with closing(Sandbox(RUN, 2, LIMITS)) as two:
        yield two


@pytest.fixture
def single() -> Iterator[Sandbox]:
    with closing(Sandbox(RUN, 1, LIMITS)) as one:
        yield one


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where functions show which process runs them."""
    (tmp_path / "signed").mkdir()
    return tmp_path / "signed"
