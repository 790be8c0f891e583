"""``results.jsonl`` of ``infill batch``: what became of each line, and what a later run has to do."""

import fcntl
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from launch.errors import LaunchError

FILE = "results.jsonl"


class Outcome(BaseModel):
    """Of a line. ``digest``: of its content; ``tries``: how often it has ended without a picture."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    custom_id: str
    status: Literal["succeeded", "failed"]
    files: list[str] = []
    job: str | None = None
    seeds: list[int] = []
    timings: Mapping[str, float] | None = None
    error: Mapping[str, str] | None = None
    line: int
    digest: str
    tries: int = 0


class Results:
    """The folder, ours until ``close``. Each outcome is appended at once; of several of a line the last one counts.

    Raises LaunchError for a folder that cannot be written, or that another run has.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self._lock = Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._folder_fd = os.open(folder, os.O_RDONLY)
            fcntl.flock(self._folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.outcomes = self._read()
            self._write_all()
            self._file = self.path.open("a", encoding="utf-8")
        except BlockingIOError:
            raise LaunchError(f"{folder}: another infill batch writes into it.") from None
        except OSError as error:
            raise LaunchError(f"{folder} cannot be written: {error.strerror}.") from None

    def _read(self) -> dict[str, Outcome]:
        """The last outcome of each line. A last line that was cut off, by a kill, says nothing."""
        try:
            texts = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return {}
        found = {}
        for number, text in enumerate(texts, 1):
            if not text.strip():
                continue
            try:
                outcome = Outcome.model_validate_json(text)
            except ValidationError:
                if number == len(texts):
                    break
                raise LaunchError(f"{self.path}: line {number} is none of infill batch. Name another folder.") from None
            found[outcome.custom_id] = outcome
        return found

    def _write_all(self) -> None:
        """One line for each custom_id."""
        part = self.folder / f".{FILE}.part"
        rows = [f"{outcome.model_dump_json()}\n" for outcome in self.outcomes.values()]
        part.write_text("".join(rows), encoding="utf-8")
        part.replace(self.path)

    def add(self, outcome: Outcome) -> None:
        """Raises OSError."""
        with self._lock:
            self._file.write(f"{outcome.model_dump_json()}\n")
            self._file.flush()
            self.outcomes[outcome.custom_id] = outcome

    def is_done(self, custom_id: str, digest: str) -> bool:
        """Whether the pictures of this very content are there."""
        known = self.outcomes.get(custom_id)
        if known is None or known.status != "succeeded" or known.digest != digest:
            return False
        return all((self.folder / name).is_file() for name in known.files)

    def save(self, names: Sequence[str], images: Sequence[bytes], before: Outcome | None) -> None:
        """Write a line's pictures, whole or not at all, and remove those that it had under other names.

        Raises OSError.
        """
        for name, image in zip(names, images, strict=True):
            part = self.folder / f".{name}.part"
            part.write_bytes(image)
            part.replace(self.folder / name)
        for name in set(before.files if before else []) - set(names):
            with suppress(OSError):
                (self.folder / Path(name).name).unlink()

    def close(self) -> None:
        self._file.close()
        self._write_all()
        os.close(self._folder_fd)
