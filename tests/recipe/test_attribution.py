from __future__ import annotations

import json
from pathlib import Path

import pytest

from recipe.attribution import attribution, known_files, write_attribution

ROW = {
    "file": "a.webp",
    "package": "p",
    "package_version": "1",
    "path_in_package": "x/a.jpg",
    "title": "Bee",
    "author": "Ann",
    "source_url": "https://example.org/bee",
    "licence": "CC-BY-2.0",
}


def test_a_credited_photo_has_title_author_source_and_licence() -> None:
    text = attribution([ROW])
    line = "a.webp | Bee | Ann | https://example.org/bee | CC-BY-2.0, https://creativecommons.org/licenses/by/2.0/"
    assert line in text.splitlines()
    assert "resized, re-encoded and used as training data" in text
    assert text.count("Redistributions in binary form") == 1


def test_a_photo_without_a_page_is_credited_to_its_package() -> None:
    assert "Ann | p 1, x/a.jpg | CC-BY-2.0" in attribution([ROW | {"source_url": ""}])


def test_a_licence_nobody_looked_at_is_refused() -> None:
    with pytest.raises(KeyError):
        attribution([ROW | {"licence": "GPL-3.0"}])


def test_free_photos_are_known_without_a_line_of_credit() -> None:
    text = attribution([ROW, ROW | {"file": "b.webp", "licence": "CC0-1.0"}])
    assert known_files(text) == {"a.webp", "b.webp"}
    assert text.count("Ann") == 1


def test_a_run_that_saw_an_unlisted_file_gets_no_attribution(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(",".join(ROW) + "\n" + ",".join(ROW.values()) + "\n")
    (tmp_path / "runs/unet").mkdir(parents=True)
    seen = tmp_path / "runs/unet/files.json"
    seen.write_text(json.dumps(["a.webp"]))
    write_attribution(tmp_path, tmp_path / "runs", tmp_path / "pocket")
    assert (tmp_path / "pocket/trained_on.txt").read_text() == "a.webp\n"
    seen.write_text(json.dumps(["a.webp", "stranger.webp"]))
    with pytest.raises(ValueError, match=r"stranger\.webp"):
        write_attribution(tmp_path, tmp_path / "runs", tmp_path / "pocket")
