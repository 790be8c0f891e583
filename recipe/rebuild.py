"""`python -m recipe.rebuild`: the training photos again, from the packages that carry them."""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from recipe.corpus_sources import debian, photo
from recipe.corpus_sources.edj import largest_jpeg
from recipe.corpus_sources.rcc import ResourceFile

LIST = Path(__file__).parent / "corpus_sources/photos.csv"
REPOSITORY = "budgie-backgrounds"
"""The one source that is no package: a git checkout, named by the caller."""
Row = dict[str, str]


def photo_list() -> list[Row]:
    """The photos that belong to the corpus: file, package, where in it, title, author, licence, size."""
    with LIST.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def source_bytes(root: Path, path_in_package: str) -> bytes:
    """The picture file that `path_in_package` names below `root`: `x.jpg`, `x.rcc:/inner` or `x.edj:largest JPEG`."""
    outer, _, inner = path_in_package.partition(":")
    data = (root / outer.lstrip("/")).read_bytes()
    if outer.endswith(".rcc"):
        return ResourceFile(data).read(inner)
    return largest_jpeg(data) if outer.endswith(".edj") else data


def rebuild(rows: Sequence[Row], to: Path, cache: Path, checkout: Path | None = None) -> list[Row]:
    """Writes `train/` and `train.csv` into `to`; returns the rows that were written.

    Raises ValueError if a picture comes out at another size than the list says: then it is another picture.
    """
    done = [row for row in rows if row["package"] != REPOSITORY or checkout]
    (to / "train").mkdir(parents=True, exist_ok=True)
    for row in tqdm(done, desc="photos", mininterval=5):
        root = checkout if row["package"] == REPOSITORY else None
        root = root or debian.unpacked(row["package"], row["package_version"], cache)
        image = photo.normalized(source_bytes(root, row["path_in_package"]))
        if image.size != (int(row["width"]), int(row["height"])):
            raise ValueError(f"{row['file']} is {image.size} px, the list says {row['width']}x{row['height']}")
        photo.write(image, to / "train" / row["file"])
    with (to / "train.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(done)
    return done


def compare(rows: Sequence[Row], rebuilt: Path, reference: Path) -> Iterator[str]:
    """One line a package: how many photos equal the reference byte for byte, and how close the farthest one is."""
    for package in dict.fromkeys(row["package"] for row in rows):
        files = [row["file"] for row in rows if row["package"] == package]
        same = sum(_bytes(rebuilt, file) == _bytes(reference, file) for file in files)
        worst = min(_psnr(rebuilt / "train" / file, reference / "train" / file) for file in files)
        yield f"{package}: {len(files)} photos, {same} with the same bytes, lowest PSNR {worst:.1f} dB"


def _bytes(folder: Path, file: str) -> bytes:
    return (folder / "train" / file).read_bytes()


def _psnr(path: Path, other: Path) -> float:
    """In dB; infinite for equal pixels, minus infinite for another size."""
    with Image.open(path) as a, Image.open(other) as b:
        first, second = (np.asarray(image.convert("RGB"), dtype=np.float64) for image in (a, b))
    if first.shape != second.shape:
        return -np.inf
    error = float(np.square(first - second).mean())
    return float(10 * np.log10(255**2 / error)) if error else np.inf


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipe.rebuild", description=__doc__)
    rows = photo_list()
    packages = list(dict.fromkeys(row["package"] for row in rows))
    parser.add_argument("--to", type=Path, default=Path("corpus"), help="gets train/ and train.csv")
    parser.add_argument("--cache", type=Path, help="keeps the unpacked packages here; else they are removed at the end")
    parser.add_argument("--packages", nargs="+", choices=packages, default=packages, help="these only")
    parser.add_argument("--budgie", type=Path, help=f"a checkout of {REPOSITORY}; without it its photos are left out")
    parser.add_argument("--compare", type=Path, help="another corpus to compare the result with")
    arguments = parser.parse_args()
    chosen = [row for row in rows if row["package"] in arguments.packages]
    with tempfile.TemporaryDirectory() as passing:
        done = rebuild(chosen, arguments.to, (arguments.cache or Path(passing)).absolute(), arguments.budgie)
    print(f"{len(done)} of {len(chosen)} photos in {arguments.to}")
    if arguments.compare:
        print(*compare(done, arguments.to, arguments.compare), sep="\n")


if __name__ == "__main__":
    main()
