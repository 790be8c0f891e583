"""Waiting for what another process or thread does."""

import time
from collections.abc import Callable


def until(done: Callable[..., object]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)
