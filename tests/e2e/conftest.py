import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.e2e.edits import Pixels
from tests.e2e.stack import MASK, PHOTO, ROOT, Process, Stack
from tests.e2e.template import Template
from tests.programs import MODE, program
from tests.redis_server import RedisServer

SCRIPT = ROOT / "scripts" / "test-clients.sh"
INSTALLED = ROOT / "build" / "clients"


@pytest.fixture(scope="session", autouse=True)
def template() -> Iterator[None]:
    """Most workers of these tests are forked from one process, which has imported what they import."""
    if sys.platform != "linux":
        yield
        return
    with Template() as Process.template:
        yield
    Process.template = None


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One API and one worker with the pocket model, on a Redis of their own."""
    folder, loras = tmp_path_factory.mktemp("e2e"), tmp_path_factory.mktemp("loras")
    with (
        RedisServer(folder / "redis", append_only=True) as server,
        Stack(server.url, folder, INFILL_LORA_DIR=str(loras)) as made,
    ):
        made.start_api()
        made.start_worker()
        made.wait_until_ready()
        yield made


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made


@pytest.fixture(scope="session")
def photo() -> Pixels:
    with Image.open(PHOTO) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="session")
def hole() -> Pixels:
    with Image.open(MASK) as image:
        return np.asarray(image.convert("L"))


@pytest.fixture(scope="session")
def installed() -> Path:
    """The folder of the packages of npm, and of the clients. Without a way to install them, the tests skip, where they
    are not required.
    """
    program("npm")
    made = subprocess.run([SCRIPT], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if made.returncode:
        said = f"the clients could not be installed: {made.stderr[-500:]}"
        pytest.fail(said) if os.environ.get(MODE) == "required" else pytest.skip(said)
    return INSTALLED
