"""What the boxes of an AVIF or HEIC file say of its primary item, and of no other."""

import struct

import pytest

from jobs.heif_boxes import describe


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def pixi(bits: int) -> bytes:
    return box(b"pixi", bytes([0, 0, 0, 0, 3, bits, bits, bits]))


def file_of(properties: list[bytes], own: list[int], primary: int = 1) -> bytes:
    """A file of two items: the primary one has its ``own`` properties, counted from 1; the other has all."""
    items = {primary: own, primary + 1: [*range(1, len(properties) + 1)]}
    entries = [struct.pack(">HB", item, len(has)) + bytes(has) for item, has in items.items()]
    ipma = box(b"ipma", bytes(4) + struct.pack(">I", len(items)) + b"".join(reversed(entries)))
    iprp = box(b"iprp", box(b"ipco", b"".join(properties)) + ipma)
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4) + box(b"pitm", struct.pack(">IH", 0, primary)) + iprp)


NCLX = box(b"colr", b"nclx" + struct.pack(">HHHB", 9, 16, 9, 0x80))
PROFILE = box(b"colr", b"prof" + bytes(200))


@pytest.mark.parametrize(("own", "bits"), [([1], 10), ([2], 12), ([3], 8), ([0x81], 10), ([9], 10), ([], 10)])
def test_the_depth_is_that_of_the_primary_item(own: list[int], bits: int) -> None:
    assert describe(file_of([pixi(10), pixi(12), pixi(8)], own)).bits == bits


@pytest.mark.parametrize("depth", [(b"\x81\x0c\x0c\0", 8), (b"\x81\x0c\x4c\0", 10), (b"\x81\x0c\x6c\0", 12)])
def test_without_a_count_of_bits_the_codecs_configuration_says_it(depth: tuple[bytes, int]) -> None:
    assert describe(file_of([box(b"av1C", depth[0])], [1])).bits == depth[1]


def test_code_points_are_stated_unless_a_profile_is() -> None:
    assert describe(file_of([NCLX], [1])).chunks == {b"cICP": bytes([9, 16, 0, 1])}
    assert describe(file_of([NCLX, PROFILE], [1, 2])).chunks == {}
    assert describe(file_of([PROFILE, NCLX], [2])).chunks == {b"cICP": bytes([9, 16, 0, 1])}
    assert describe(file_of([NCLX], [])).chunks == {}


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 9, 2**32 - 1])
def test_a_box_of_any_length_ends(length: int) -> None:
    data = file_of([NCLX], [1]) + struct.pack(">I", length) + b"free" + bytes(40)
    assert describe(data).chunks
