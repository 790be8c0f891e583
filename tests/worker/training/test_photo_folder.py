from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.worker.training.drawn import picture
from worker.training.photo_folder import load_folder

ORIENTATION = 0x0112


def test_photos_come_with_the_captions_beside_them(tmp_path: Path) -> None:
    for seed, name in enumerate(("b.png", "a.JPG")):
        Image.fromarray(picture(seed)).save(tmp_path / name)
    (tmp_path / "a.txt").write_text("red door\n")
    (tmp_path / "notes.md").write_text("no picture")
    photos = load_folder(tmp_path, 64).photos
    assert [(photo.file, photo.title) for photo in photos] == [("a.JPG", "red door"), ("b.png", "")]
    assert (photos[1].pixels == picture(0)).all()


def test_photos_are_upright_and_no_larger_than_crops_need(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture(0, 300, 400)).save(tmp_path / "a.jpg", exif=exif)
    assert load_folder(tmp_path, 64).photos[0].pixels.shape == (171, 128, 3)


@pytest.mark.parametrize(("name", "word"), [("", "has no pictures"), ("broken.png", "cannot be read")])
def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path, name: str, word: str) -> None:
    if name:
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=word):
        load_folder(tmp_path, 64)
    with pytest.raises(ValueError, match="no folder"):
        load_folder(tmp_path / "nowhere", 64)
