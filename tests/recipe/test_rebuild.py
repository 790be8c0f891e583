"""The corpus's own recipe: Qt and Enlightenment archives built here, pictures settled, the list complete."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from recipe.attribution import FREE, LICENCE_URLS, attribution
from recipe.corpus_sources import photo
from recipe.corpus_sources.edj import largest_jpeg
from recipe.corpus_sources.rcc import ResourceFile
from recipe.rebuild import compare, photo_list, rebuild, source_bytes
from tests.factories import encoded
from tests.worker.training.drawn import picture

POCKET = Path(__file__).parents[2] / "worker/pocket"
ORIENTATION = 0x0112


def _rcc(version: int) -> bytes:
    """/README (zlib) and /images/a.webp (plain), laid out as Qt's `rcc --binary` does."""
    data, names = b"", b""
    stamp = b"" if version == 1 else bytes(8)
    nodes = []

    def named(text: str) -> int:
        nonlocal names
        at = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return at

    def stored(content: bytes) -> int:
        nonlocal data
        at = len(data)
        data += struct.pack(">I", len(content)) + content
        return at

    text = b"Files: a.webp" * 20
    packed = struct.pack(">I", len(text)) + zlib.compress(text)
    nodes.append(struct.pack(">IHII", 0, 2, 2, 1) + stamp)
    nodes.append(struct.pack(">IHHHI", named("README"), 1, 0, 1, stored(packed)))
    nodes[-1] += stamp
    nodes.append(struct.pack(">IHII", named("images"), 2, 1, 3) + stamp)
    nodes.append(struct.pack(">IHHHI", named("a.webp"), 0, 0, 1, stored(b"RIFF....")) + stamp)
    header = 20 if version < 3 else 24
    tree = b"".join(nodes)
    offsets = (header + len(data) + len(names), header, header + len(data))
    flags = b"" if version < 3 else bytes(4)
    return b"qres" + struct.pack(">IIII", version, *offsets) + flags + data + names + tree


def _jpeg(side_px: int, **options: object) -> bytes:
    return encoded(Image.fromarray(picture(side_px, side_px, side_px)), "JPEG", **options)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_a_qt_archive_are_read_by_their_paths(version: int) -> None:
    archive = ResourceFile(_rcc(version))
    assert list(archive.files()) == ["/README", "/images/a.webp"]
    assert archive.read("/images/a.webp") == b"RIFF...."
    assert archive.read("/README") == b"Files: a.webp" * 20
    with pytest.raises(KeyError):
        archive.read("/images/b.webp")


@pytest.mark.parametrize(("data", "word"), [(b"PK\3\4" + bytes(40), "qres"), (b"qres" + struct.pack(">I", 9), "9")])
def test_what_is_no_known_qt_archive_is_refused(data: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        ResourceFile(data)


def test_the_largest_of_the_jpegs_in_a_theme_is_taken() -> None:
    small, large = _jpeg(24), _jpeg(96)
    theme = b"EET\1" + small + b"\xff\xd8\xff noise" + large + b"end" + small
    with Image.open(io.BytesIO(largest_jpeg(theme))) as image:
        assert image.size == (96, 96)
    with pytest.raises(ValueError, match="no JPEG"):
        largest_jpeg(b"EET\1 without a picture \xff\xd8\xff")


def test_a_list_entry_names_the_archive_and_the_file_inside(tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/x.rcc").write_bytes(_rcc(3))
    (tmp_path / "usr/x.jpg").write_bytes(b"plain")
    assert source_bytes(tmp_path, "/usr/x.rcc:/images/a.webp") == b"RIFF...."
    assert source_bytes(tmp_path, "/usr/x.jpg") == b"plain"


def test_photos_are_turned_upright_and_shrunk_to_768_but_never_enlarged() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = encoded(Image.fromarray(picture(0, 800, 1200)), "JPEG", exif=exif)
    assert photo.normalized(turned).size == (768, 1152)
    assert photo.normalized(_jpeg(96)).size == (96, 96)


def test_another_colour_space_becomes_srgb() -> None:
    plain = np.asarray(photo.normalized(_jpeg(96)), dtype=int)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")
    swapped = swapped.replace("sRGB".encode("utf-16-be"), "BGR!".encode("utf-16-be"))
    assert (np.asarray(photo.normalized(_jpeg(96, icc_profile=srgb)), dtype=int) == plain).all()
    converted = np.asarray(photo.normalized(_jpeg(96, icc_profile=swapped)), dtype=int)
    assert np.abs(converted - plain[..., ::-1]).mean() < 1  # red and blue have changed places


def test_a_written_photo_carries_pixels_only(tmp_path: Path) -> None:
    photo.write(photo.normalized(_jpeg(96, comment=b"me", exif=Image.Exif())), tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as image:
        assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info)


def test_a_corpus_is_rebuilt_from_a_checkout_and_compared(tmp_path: Path) -> None:
    row = next(row for row in photo_list() if row["package"] == "budgie-backgrounds")
    row |= {"path_in_package": "a.jpg", "width": "96", "height": "96"}
    (tmp_path / "a.jpg").write_bytes(_jpeg(96))
    assert rebuild([row], tmp_path / "new", tmp_path, checkout=tmp_path) == [row]
    assert rebuild([row], tmp_path / "none", tmp_path) == []
    assert "1 with the same bytes" in next(compare([row], tmp_path / "new", tmp_path / "new"))
    with pytest.raises(ValueError, match="96x97"):
        rebuild([row | {"height": "97"}], tmp_path / "new", tmp_path, checkout=tmp_path)


def test_every_listed_photo_has_a_source_a_size_and_a_licence_with_a_text() -> None:
    rows = photo_list()
    assert len({row["file"] for row in rows}) == len(rows) == 335
    for row in rows:
        assert row["package"] and row["package_version"] and row["path_in_package"] and row["title"]
        assert int(row["width"]) > 0 < int(row["height"])
        assert row["licence"] in FREE or (row["licence"] in LICENCE_URLS and row["author"])


def test_the_attribution_that_ships_is_the_one_made_from_the_list() -> None:
    assert (POCKET / "ATTRIBUTION").read_text(encoding="utf-8") == attribution(photo_list())
    assert set((POCKET / "trained_on.txt").read_text().split()) <= {row["file"] for row in photo_list()}
