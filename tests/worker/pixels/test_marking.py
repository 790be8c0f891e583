"""Results say that a model has changed them, where other programs look for that."""

import io
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from jobs.schema import OutputFormat
from tests.factories import noise, png
from tests.worker import exiftool
from tests.worker.painting import MASK, repaint

FORMATS = get_args(OutputFormat)
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
PHOTO = png(noise((*MASK.shape, 3)))
MOST_BYTES = 1_000
"""That the mark adds to a file."""


@pytest.fixture(scope="module")
def results() -> dict[str, bytes]:
    """By their names: marked or plain, in each format."""
    asked = {
        f"{name}.{kind}": (marks, kind) for name, marks in (("marked", True), ("plain", False)) for kind in FORMATS
    }
    return {name: repaint(PHOTO, marks=marks, output_format=kind)[1][0] for name, (marks, kind) in asked.items()}


@pytest.fixture(scope="module")
def seen(results: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return exiftool.read(tmp_path_factory.mktemp("marking"), results)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_result_is_marked_by_default(seen: dict[str, dict[str, Any]], kind: str) -> None:
    found = seen[f"marked.{kind}"]
    assert found["XMP-iptcExt:DigitalSourceType"] == SOURCE
    assert found["XMP-iptcExt:AISystemUsed"] == "tiny"
    assert found["XMP-xmp:CreatorTool"].split()[0] == "Infill"
    assert "ExifTool:Warning" not in found


@pytest.mark.parametrize("kind", FORMATS)
def test_a_worker_that_does_not_mark_writes_no_xmp(seen: dict[str, dict[str, Any]], kind: str) -> None:
    assert [tag for tag in seen[f"plain.{kind}"] if tag.startswith("XMP")] == []


@pytest.mark.parametrize("kind", FORMATS)
def test_a_mark_changes_no_pixel_and_adds_few_bytes(results: dict[str, bytes], kind: str) -> None:
    marked, plain = results[f"marked.{kind}"], results[f"plain.{kind}"]
    with Image.open(io.BytesIO(marked)) as one, Image.open(io.BytesIO(plain)) as other:
        assert (np.asarray(one) == np.asarray(other)).all()
    assert abs(len(marked) - len(plain)) < MOST_BYTES + 50  # timings are written in as many digits as they have


def test_a_result_that_is_edited_again_is_marked_once(tmp_path: Path) -> None:
    (once,) = repaint(PHOTO)[1]
    report, (twice,) = repaint(once)
    assert report.picture and report.picture.metadata and report.picture.metadata.xmp == "none"
    assert twice.count(SOURCE.encode()) == 1
    assert exiftool.read(tmp_path, {"twice.png": twice})["twice.png"]["XMP-iptcExt:DigitalSourceType"] == SOURCE


def test_a_models_name_may_hold_what_xml_gives_a_meaning(tmp_path: Path) -> None:
    (result,) = repaint(PHOTO, model='<a> & "ü"')[1]
    assert exiftool.read(tmp_path, {"a.png": result})["a.png"]["XMP-iptcExt:AISystemUsed"] == '<a> & "ü"'
