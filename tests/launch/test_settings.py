from pathlib import Path

from launch.settings import CHECKOUT, LaunchSettings


def test_every_setting_of_the_launcher_is_documented_with_its_default() -> None:
    lines = (CHECKOUT / "docs" / "operations.md").read_text().splitlines()
    cells = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `INFILL_")
    ]
    documented = {name: default for name, default, _ in cells}
    assert documented == {
        f"INFILL_{name.upper()}": shown(field.default) for name, field in LaunchSettings.model_fields.items()
    }


def shown(default: object) -> str:
    if isinstance(default, Path):
        return str(default.relative_to(CHECKOUT))
    return "none" if default is None else str(default)
