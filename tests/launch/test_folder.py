from pathlib import Path

import pytest

from launch.errors import LaunchError
from launch.folder import claim


def test_a_second_instance_gets_a_folder_of_its_own_and_a_later_one_the_first_again(tmp_path: Path) -> None:
    first, second = claim(tmp_path, "up"), claim(tmp_path, "up")
    assert [first.path.name, second.path.name] == ["up-0", "up-1"]
    first.release()
    third = claim(tmp_path, "up")
    assert third.path == first.path
    second.release()
    third.release()


def test_the_previous_log_is_put_aside(tmp_path: Path) -> None:
    folder = claim(tmp_path, "up")
    folder.start_log("api")
    folder.log("api").write_text("old")
    folder.start_log("api")
    assert not folder.log("api").exists()
    assert folder.log("api.previous").read_text() == "old"
    folder.release()


def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file, not a folder")
    with pytest.raises(LaunchError, match="cannot be written"):
        claim(tmp_path / "var", "up")
