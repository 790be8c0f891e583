"""A PNG is taken apart without decoding it, whatever its chunks hold."""

import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.png_chunks import (
    MAX_CHUNKS,
    MAX_PROFILE_BYTES,
    MalformedPng,
    appearance,
    check_whole,
    chunk,
    decodable,
    profile_in,
    without,
)
from tests.png_files import chunks_of, written, zipped

HEADER = (b"IHDR", bytes(13))
PIXELS = [(b"IDAT", b"first"), (b"IDAT", b"second")]
END = (b"IEND", b"")
XMP = b"XML:com.adobe.xmp"
BOMB = zlib.compress(bytes(200 * 2**20), 9)


def kinds(png: bytes) -> list[bytes]:
    return [kind for kind, _ in chunks_of(png)]


def test_a_decoder_sees_no_texts_profiles_and_private_chunks() -> None:
    others = [(b"tEXt", b"a\0b"), zipped(b"x"), (b"iTXt", b""), (b"iCCP", b"x"), (b"gAMA", b"x"), (b"caBX", b"x" * 999)]
    png = written([HEADER, others[0], (b"PLTE", b"abc"), (b"tRNS", b"a"), *others, *PIXELS, *others, END])
    assert chunks_of(decodable(png)) == [HEADER, (b"PLTE", b"abc"), (b"tRNS", b"a"), *PIXELS, END]


def test_other_files_and_plain_pngs_are_left_as_they_are() -> None:
    plain = written([HEADER, *PIXELS, END])
    for data in (plain, b"\xff\xd8\xff jpeg", b"", plain[:8], plain[:30], plain[:-3]):
        assert decodable(data) is data


def test_animations_are_still_seen_as_such() -> None:
    png = written(
        [HEADER, (b"acTL", bytes(8)), (b"fcTL", bytes(26)), *PIXELS, (b"fcTL", bytes(26)), (b"fdAT", b"x"), END]
    )
    assert decodable(png) == png


def test_an_orientation_comes_before_the_pixels_and_the_first_of_each_kind_counts() -> None:
    said = (b"iTXt", XMP + b"\0\0\0\0\0<tiff:Orientation>8<")
    other = (b"iTXt", XMP + b"\0\0\0\0\0<tiff:Orientation>3<")
    png = written([HEADER, *PIXELS, (b"eXIf", b"e"), (b"tIME", b"t"), said, other, END])
    short = (b"iTXt", XMP + b"\0\0\0\0\0tiff:Orientation>8")
    assert chunks_of(decodable(png)) == [HEADER, (b"eXIf", b"e"), short, *PIXELS, END]


def test_what_says_how_pixels_look_is_the_first_of_its_kind_before_them() -> None:
    png = written([HEADER, (b"gAMA", b"1"), (b"gAMA", b"2"), (b"cICP", b"3"), *PIXELS, (b"cHRM", b"4"), END])
    assert appearance(png) == {b"gAMA": b"1", b"cICP": b"3"}
    assert appearance(b"\xff\xd8\xff") == {}


@pytest.mark.parametrize("broken", [0, 40, -5])
def test_a_wrong_checksum_or_a_missing_end_is_damage(broken: int) -> None:
    png = bytearray(written([HEADER, (b"tEXt", b"a\0bcdefghijk"), *PIXELS, END]))
    check_whole(bytes(png))
    png[20 if broken == 0 else broken] ^= 1
    with pytest.raises(MalformedPng, match="damaged or cut short"):
        check_whole(bytes(png))


@pytest.mark.parametrize(
    "chunks", [[*PIXELS, END], [(b"eXIf", b"x" * 20), HEADER, *PIXELS, END], [HEADER, HEADER, END]]
)
def test_a_file_whose_header_is_not_the_first_chunk_alone_is_damaged(chunks: list[tuple[bytes, bytes]]) -> None:
    for reading in (decodable, check_whole):
        with pytest.raises(MalformedPng, match="damaged"):
            reading(written(chunks))


def test_a_file_without_its_end_is_damaged() -> None:
    png = written([HEADER, *PIXELS, END])
    for cut in range(8, len(png)):
        with pytest.raises(MalformedPng):
            check_whole(png[:cut])
    check_whole(png + b"something behind the end")
    with pytest.raises(MalformedPng):
        check_whole(written([HEADER, END]))


def test_a_profile_is_read_as_it_was_written() -> None:
    assert profile_in(b"name\0\0" + zlib.compress(b"profile")) == b"profile"
    longest = bytes(MAX_PROFILE_BYTES)
    assert profile_in(b"name\0\0" + zlib.compress(longest)) == longest


@pytest.mark.parametrize(
    "data", [b"", b"name", b"name\0", b"n\0\1" + zlib.compress(b"x"), b"n\0\0" + zlib.compress(b"x")[:-1]]
)
def test_a_profile_that_cannot_be_read_is_none(data: bytes) -> None:
    assert profile_in(data) is None


@pytest.mark.parametrize(
    "bomb",
    [
        zipped(b""),
        (b"zTXt", b"Comment\0\0" + BOMB),
        (b"zTXt", b"Raw profile type exif\0\0" + BOMB),
        (b"iTXt", XMP + b"\0\1\0\0\0" + BOMB),
        (b"iCCP", b"icc\0\0" + BOMB),
    ],
    ids=["none", "text", "raw profile", "xmp", "profile"],
)
def test_chunks_that_inflate_to_gigabytes_cost_little(bomb: tuple[bytes, bytes]) -> None:
    png = written([HEADER, *[bomb] * 100, *PIXELS, END])  # 20 GB, were all of them inflated
    tracemalloc.start()
    began = time.process_time()
    decodable(png)
    profile = profile_in(appearance(png).get(b"iCCP", b""))
    assert profile is None or len(profile) == MAX_PROFILE_BYTES + 1
    assert time.process_time() - began < 3
    assert tracemalloc.get_traced_memory()[1] < 6 * MAX_PROFILE_BYTES + 3 * len(png)
    tracemalloc.stop()


def test_more_chunks_than_any_writer_makes_are_refused_by_number() -> None:
    most = written([HEADER, *PIXELS]) + chunk(b"IDAT", b"") * (MAX_CHUNKS - 4) + chunk(*END)
    check_whole(most)
    with pytest.raises(MalformedPng, match=f"more than {MAX_CHUNKS} PNG chunks"):
        decodable(most[:-12] + chunk(b"IDAT", b"") + chunk(*END))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"IDAT", b"iTXt", b"zTXt", b"tEXt", b"iCCP", b"eXIf", b"IEND"]),
            st.one_of(
                st.binary(max_size=30),
                st.binary(max_size=20).map(lambda rest: XMP + b"\0\1\0" + rest),
                st.binary(max_size=20).map(lambda rest: b"Raw profile type exif\0" + rest),
            ),
        ),
        max_size=8,
    ),
    st.binary(max_size=12),
)
def test_chunks_of_any_bytes_are_taken(chunks: list[tuple[bytes, bytes]], rest: bytes) -> None:
    png = written([HEADER, *chunks]) + rest
    seen = decodable(png)
    whole = seen.removesuffix(rest) if b"IEND" not in {kind for kind, _ in chunks} else seen
    assert not {b"iCCP", b"zTXt"} & set(kinds(whole))
    assert set(appearance(png)) <= {b"iCCP"}


def test_a_file_without_chunks_of_a_kind_has_all_others() -> None:
    others = [(b"IHDR", bytes(13)), (b"tEXt", b"a\0b"), *PIXELS]
    whole = written([others[0], (b"caBX", b"1"), *others[1:], (b"caBX", b"2"), END])
    assert without(whole, b"caBX") == written([*others, END])
