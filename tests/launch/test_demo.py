"""``infill demo`` and the command line's refusals."""

import re
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from launch.settings import SAMPLE
from tests.launch.launcher import Launcher

Launch = Callable[..., Launcher]


@pytest.fixture
def demo_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "demo"
    folder.mkdir()
    for name in ("photo.png", "mask.png"):
        shutil.copy(SAMPLE / name, folder)
    return folder


def test_the_demo_writes_its_pictures_prints_its_times_and_leaves_no_process(launch: Launch, demo_dir: Path) -> None:
    demo = launch("demo", INFILL_DEMO_DIR=str(demo_dir), INFILL_TORCH_THREADS="1", OMP_NUM_THREADS="1")
    demo.wait_for("accepted")
    assert demo.wait() == 0, demo.said
    assert demo.survivors() == {}
    assert len(demo.children) == 3
    assert re.search(r"^denoise +[\d.]+ +[\d.]+%  #", demo.said, re.MULTILINE)
    for name in ("removal", "extension"):
        assert f"{name}: changed_outside_mask: 0 (counted again here: 0)" in demo.said
    assert size_of(demo_dir / "removed.png") == (512, 512)
    assert size_of(demo_dir / "extended.png") == (640, 512)
    assert size_of(demo_dir / "before-after.png") > (1664, 512)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_a_demo_without_its_photo_ends_with_a_sentence(launch: Launch, demo_dir: Path) -> None:
    (demo_dir / "photo.png").unlink()
    demo = launch("demo", INFILL_DEMO_DIR=str(demo_dir))
    assert demo.wait() == 1
    assert demo.said == f"infill: {demo_dir / 'photo.png'} cannot be read: No such file or directory.\n"


def test_a_worker_that_cannot_start_ends_the_start_with_the_end_of_its_log(launch: Launch, tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text("[models]")
    up = launch("up", INFILL_CATALOG=str(catalog))
    up.children = {}
    assert up.wait() == 1
    assert re.search(r"infill: (api|worker-1) ended with status 1 before it was ready\.\n$", up.said)
    assert str(catalog) in up.said
    assert up.survivors() == {}


def test_a_named_redis_that_does_not_answer_is_reported_without_its_password(launch: Launch) -> None:
    with socket.socket() as probe:  # bound, but nobody listens
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        up = launch("up", INFILL_REDIS_URL=f"redis://user:secret@{address}/0?password=secret")
        assert up.wait() == 1
    assert up.said.endswith(f"infill: INFILL_REDIS_URL names redis://{address}/0, which does not answer.\n")
    assert "secret" not in up.said


def test_a_url_that_names_sentinels_is_refused_by_a_sentence_with_the_two_settings(launch: Launch) -> None:
    up = launch("up", INFILL_REDIS_URL="redis+sentinel://user:secret@host:26379/main")
    assert up.wait() == 1 and "INFILL_REDIS_SENTINELS=host:port,host:port and INFILL_REDIS_SERVICE=name" in up.said
    assert "secret" not in up.said and "Traceback" not in up.said


@pytest.mark.parametrize("value", ["0", "70000", "eight"])
def test_a_setting_out_of_range_is_named(launch: Launch, value: str) -> None:
    up = launch("up", INFILL_PORT=value)
    assert up.wait() == 1
    assert up.said.startswith("infill: INFILL_PORT=")


def test_a_stop_before_the_start_is_over_is_no_failure(launch: Launch) -> None:
    up = launch("up")
    up.wait_for("Redis:")
    up.send(signal.SIGTERM)
    assert up.wait() == 0, up.said
    assert up.survivors() == {}
