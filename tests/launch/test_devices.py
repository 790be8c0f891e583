"""INFILL_DEVICES: one device for each worker."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.connection import RedisAddress
from launch.folder import claim
from launch.members import Worker
from launch.settings import LaunchSettings


def test_each_worker_gets_its_device_and_without_the_setting_its_own_choice(tmp_path: Path) -> None:
    folder, redis = claim(tmp_path, "up"), RedisAddress("redis://127.0.0.1:1/0")
    named = LaunchSettings(workers=2, devices="cuda:0, cuda:1")
    devices = [Worker(index, named, folder, redis).env()["INFILL_DEVICE"] for index in (1, 2)]
    assert devices == ["cuda:0", "cuda:1"]
    assert "INFILL_DEVICE" not in Worker(1, LaunchSettings(), folder, redis).env()
    folder.release()


@pytest.mark.parametrize(("workers", "devices"), [(2, "cuda:0"), (1, "cuda:0,cuda:1"), (1, ","), (2, ",cuda:0")])
def test_another_number_of_devices_than_workers_is_refused(workers: int, devices: str) -> None:
    with pytest.raises(ValidationError, match="name one for each"):
        LaunchSettings(workers=workers, devices=devices)
