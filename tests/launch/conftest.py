"""Nothing that a launcher starts may outlive a test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launch.launcher import Launcher


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Launcher]]:
    """Starts launchers that are ended after the test: ``launch("up", "--port", "9000")``."""
    started: list[Launcher] = []

    def start(*arguments: str, **env: str) -> Launcher:
        folder = tmp_path / f"launcher-{len(started)}"
        folder.mkdir()
        started.append(Launcher(folder, *arguments, **env))
        return started[-1]

    yield start
    for launcher in started:
        launcher.end()
