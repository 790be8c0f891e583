"""The lines of ``infill batch``: read, and all checked before the first is sent."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from jobs.custom_ids import fault_of
from jobs.field_sentences import sentence_of
from jobs.schema import InpaintRequest
from launch.errors import LaunchError

PICTURES = ("image", "mask")
ADDRESSES = ("image_url", "mask_url", "output_url", "webhook_url")
MOST_LINE_BYTES = 2**20
SHOWN_FAULTS = 20


class BadLine(Exception):
    """What is wrong with a line, as a sentence."""


@dataclass(frozen=True)
class Line:
    """One line. ``fields`` go to the service as they are; ``pictures`` are files."""

    number: int
    custom_id: str
    fields: Mapping[str, Any]
    pictures: Mapping[str, Path] = field(default_factory=dict)

    def read(self) -> dict[str, bytes]:
        """The files' bytes. Raises OSError."""
        return {name: path.read_bytes() for name, path in self.pictures.items()}

    def digest(self, files: Mapping[str, bytes]) -> str:
        """Of all that is asked for: another one is another request."""
        digest = hashlib.sha256(json.dumps([self.custom_id, self.fields], sort_keys=True).encode())
        for name in sorted(files):
            digest.update(name.encode() + hashlib.sha256(files[name]).digest())
        return digest.hexdigest()

    def stems(self) -> list[str]:
        """The names of its pictures, without their suffixes; several are numbered."""
        n = self.fields.get("n") or 1
        return [self.custom_id] if n == 1 else [f"{self.custom_id}-{index}" for index in range(n)]


def read_lines(path: Path) -> list[Line]:
    """All lines of a file. Raises LaunchError, which names the lines that cannot be sent, and why."""
    lines: list[Line] = []
    faults: list[str] = []
    taken: dict[str, Line] = {}
    try:
        with path.open("rb") as file:
            for number, text in _numbered(file):
                try:
                    line = _line(number, text, path.parent)
                    _check_names(line, taken)
                    lines.append(line)
                except BadLine as bad:
                    faults.append(f"line {number}: {bad}")
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}.") from None
    if faults:
        _refuse(path, faults)
    if not lines:
        raise LaunchError(
            f"{path} has no lines. Each is a JSON object with custom_id, image, and the request's fields."
        )
    return lines


def _numbered(file: Any) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, each read up to one byte beyond what it may have."""
    number = 0
    while text := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        if len(text) > MOST_LINE_BYTES:
            while (rest := file.readline(MOST_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
        if text.strip():
            yield number, text


def _refuse(path: Path, faults: Sequence[str]) -> NoReturn:
    shown = "\n".join(f"  {fault}" for fault in faults[:SHOWN_FAULTS])
    more = f"\n  and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
    raise LaunchError(f"{path}: nothing was sent, for {len(faults)} of its lines cannot be:\n{shown}{more}")


def _line(number: int, text: bytes, folder: Path) -> Line:
    if len(text) > MOST_LINE_BYTES:
        raise BadLine(f"it is longer than {MOST_LINE_BYTES} bytes. Pictures are named by their paths.")
    fields = _object(text)
    custom_id = fields.pop("custom_id", None)
    if fault := fault_of(custom_id):
        raise BadLine(fault)
    fields = {"priority": "low"} | {name: value for name, value in fields.items() if value not in (None, "")}
    pictures: dict[str, Path] = {}
    for name in PICTURES:
        if name in fields:
            _take_picture(name, fields, pictures, folder)
    if "image" not in pictures and "image_url" not in fields:
        raise BadLine("image: This field is missing. It is the photo's path, or its address.")
    _check_fields(fields)
    return Line(number, custom_id, fields, pictures)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_each_once, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise BadLine("it is not UTF-8.") from None
    except (ValueError, RecursionError) as error:
        where = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadLine(f"it is not JSON{where}.") from None
    if not isinstance(found, dict):
        raise BadLine("it is JSON, but not an object with the fields as its names.")
    return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = ", ".join(sorted({name for name in names if names.count(name) > 1}))
        raise BadLine(f"{twice[:100]}: it stands there more than once.")
    return found


def _no_number(constant: str) -> NoReturn:
    raise BadLine(f"{constant}: JSON has no such number.")


def _take_picture(name: str, fields: dict[str, Any], pictures: dict[str, Path], folder: Path) -> None:
    """Move the field into ``pictures``, or to the field for addresses."""
    value = fields.pop(name)
    if not isinstance(value, str):
        raise BadLine(f"{name}: This field must be text: a path, or an address.")
    if value.startswith(("https://", "http://")):
        if f"{name}_url" in fields:
            raise BadLine(f"{name}, {name}_url: send one of them.")
        fields[f"{name}_url"] = value
        return
    path = folder / value
    if not path.is_file():
        raise BadLine(f"{name}: {value[:200]!r} is not a file. Paths are relative to the folder of the lines.")
    pictures[name] = path


def _check_fields(fields: Mapping[str, Any]) -> None:
    """Raise BadLine for fields that the service would refuse, whatever its models are."""
    asked = {name: value for name, value in fields.items() if name not in ADDRESSES}
    try:
        InpaintRequest.model_validate_json(json.dumps(asked), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "it"
        raise BadLine(f"{place[:100]}: {sentence_of(fault)}") from None


def _check_names(line: Line, taken: dict[str, Line]) -> None:
    """Raise BadLine where another line, or a picture of it, has a name of this one's, but for the case of letters."""
    for name in (line.custom_id, *line.stems()):
        other = taken.setdefault(name.lower(), line)
        if other is not line:
            raise BadLine(f"custom_id: {name!r} is taken by line {other.number} ({other.custom_id!r}).")
