"""Files that callers upload before they name them in a batch, in parts beside the pictures, until they expire."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, cast

from redis import Redis

from jobs import keys
from jobs.errors import QuotaExceeded, UploadedFileNotFound
from jobs.schema import Record
from jobs.store import Store

PART_BYTES = 2**23
BUSY_RETRY_S = 30


class FileRecord(Record):
    """``parts``: how many there are. Times are in seconds since 1970."""

    id: str
    owner: str
    filename: str
    size: int
    parts: int
    created_at: float
    expires_at: float


class UploadedFiles:
    """Args: ttl_s: how long a file lives. most_of_caller: files of one caller at a time."""

    def __init__(self, store: Store, ttl_s: int, most_of_caller: int) -> None:
        self.connection: Redis = store.connection
        self.pixels = store.pixels
        self.ttl_s = ttl_s
        self.most_of_caller = most_of_caller

    def put(self, file_id: str, owner: str, filename: str, file: BinaryIO) -> FileRecord:
        """Keep the file. Raises QuotaExceeded, and NotStored where it finds no room; then nothing of it stays."""
        size, now = file.seek(0, 2), time.time()
        parts = -(-size // PART_BYTES)
        times = {"created_at": now, "expires_at": now + self.ttl_s}
        record = FileRecord(id=file_id, owner=owner, filename=filename, size=size, parts=parts, **times)
        self._take_place(record)
        try:
            file.seek(0)
            for number in range(parts):
                self.pixels.put(file_id, {_part(number): file.read(PART_BYTES)}, self.ttl_s)
            self.connection.set(keys.uploaded_file(file_id), record.model_dump_json(), ex=self.ttl_s)
        except Exception:
            with suppress(Exception):
                self.drop(record)
            raise
        return record

    def _take_place(self, record: FileRecord) -> None:
        """Raises QuotaExceeded. Two calls at once may both be refused the last place, never both have it."""
        key = keys.uploaded_files_of(record.owner)
        with self.connection.pipeline() as pipeline:
            pipeline.zremrangebyscore(key, 0, record.created_at)
            pipeline.zadd(key, {record.id: record.expires_at})
            pipeline.expire(key, self.ttl_s)
            pipeline.zcard(key)
            count = pipeline.execute()[-1]
        if count > self.most_of_caller:
            self.connection.zrem(key, record.id)
            raise QuotaExceeded(
                f"You have {self.most_of_caller} files, and may have no more at a time. Delete one, or wait until one "
                f"expires, {self.ttl_s} s after its upload.",
                BUSY_RETRY_S,
            )

    def find(self, file_id: str) -> FileRecord:
        """Raises UploadedFileNotFound."""
        raw = cast("bytes | None", self.connection.get(keys.uploaded_file(file_id)))
        if raw is None:
            raise no_file(file_id)
        return FileRecord.model_validate_json(raw)

    def of(self, owner: str) -> list[FileRecord]:
        """Newest first."""
        names = cast("list[bytes]", self.connection.zrevrange(keys.uploaded_files_of(owner), 0, -1))
        found: Any = self.connection.mget([keys.uploaded_file(name.decode()) for name in names]) if names else []
        return [FileRecord.model_validate_json(raw) for raw in found if raw]

    def read(self, record: FileRecord) -> Iterator[bytes]:
        """Its parts. Raises UploadedFileNotFound where one has expired."""
        for number in range(record.parts):
            (part,) = self.pixels.get(record.id, [_part(number)])
            if part is None:
                raise no_file(record.id)
            yield part

    def drop(self, record: FileRecord) -> None:
        self.connection.delete(keys.uploaded_file(record.id))
        self.pixels.drop(record.id, [_part(number) for number in range(record.parts)])
        self.connection.zrem(keys.uploaded_files_of(record.owner), record.id)


def _part(number: int) -> str:
    return f"part:{number}"


def no_file(file_id: str) -> UploadedFileNotFound:
    return UploadedFileNotFound(f"There is no file {file_id[:100]!r}, or it has expired.")
