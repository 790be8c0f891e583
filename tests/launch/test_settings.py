from pathlib import Path

import pytest

from jobs.connection import RedisAddress
from launch.settings import LaunchSettings


def test_every_setting_of_the_launcher_is_documented_with_its_default() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().splitlines()
    cells = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `INFILL_")
    ]
    documented = {name: default for name, default, _ in cells}
    assert documented == {
        f"INFILL_{name.upper()}": shown(field.default) for name, field in LaunchSettings.model_fields.items()
    }


def shown(default: object) -> str:
    return "none" if default in (None, "") else str(default)


def test_the_url_or_the_sentinels_name_a_running_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "SENTINELS", "SERVICE"):
        monkeypatch.delenv(f"INFILL_REDIS_{name}", raising=False)
    assert LaunchSettings().redis is None
    assert LaunchSettings(redis_url="redis://a").redis == RedisAddress("redis://a")
    assert LaunchSettings(redis_sentinels="a", redis_service="m").redis == RedisAddress("redis:///0", "a", "m")
