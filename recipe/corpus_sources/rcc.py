"""Qt's binary resource files (`.rcc`): a tree of named files. All integers are big-endian.

The layout is that of `rcc --binary` (Qt, src/tools/rcc/rcc.cpp): a header, then at the offsets it names a table of
tree nodes, the data and the names.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"qres"
ZLIB, DIRECTORY, ZSTD = 1, 2, 4


@dataclass(frozen=True)
class ResourceFile:
    """An opened `.rcc` file. Raises ValueError if `data` is none, or of a version that nobody has described here."""

    data: bytes

    def __post_init__(self) -> None:
        if self.data[:4] != MAGIC:
            raise ValueError("not a Qt resource file: it does not begin with 'qres'")
        if self._version not in (1, 2, 3):
            raise ValueError(f"a Qt resource file of version {self._version}; versions 1 to 3 can be read")

    @property
    def _version(self) -> int:
        return int(struct.unpack_from(">I", self.data, 4)[0])

    def files(self) -> dict[str, tuple[int, int]]:
        """Path -> (flags, offset of its data); paths begin with a slash."""
        return dict(self._walk(0, ""))

    def read(self, path: str) -> bytes:
        """The bytes of one file. Raises KeyError if there is none of that name."""
        flags, offset = self.files()[path]
        (size,) = struct.unpack_from(">I", self.data, offset)
        stored = self.data[offset + 4 : offset + 4 + size]
        if flags & ZSTD:
            raise ValueError(f"{path} is packed with zstd, which is not read here")
        return zlib.decompress(stored[4:]) if flags & ZLIB else stored  # 4 bytes of unpacked size come first

    def _walk(self, node: int, path: str) -> Iterator[tuple[str, tuple[int, int]]]:
        tree, data, names = struct.unpack_from(">III", self.data, 8)
        at = tree + node * (14 if self._version == 1 else 22)  # from version 2 on a node ends with a time stamp
        name_offset, flags = struct.unpack_from(">IH", self.data, at)
        here = f"{path}/{self._name(names + name_offset)}" if node else ""
        if flags & DIRECTORY:
            count, first = struct.unpack_from(">II", self.data, at + 6)
            for child in range(first, first + count):
                yield from self._walk(child, here)
        else:
            (offset,) = struct.unpack_from(">I", self.data, at + 10)  # country and language lie between
            yield here, (flags, data + offset)

    def _name(self, at: int) -> str:
        (length,) = struct.unpack_from(">H", self.data, at)
        return self.data[at + 6 : at + 6 + 2 * length].decode("utf-16-be")  # a hash of 4 bytes lies between
