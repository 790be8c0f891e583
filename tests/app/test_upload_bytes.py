"""How many bytes an upload may have: exactly as many as allowed, and no more are read than tell so."""

import io

import pytest

from app.settings import ApiSettings
from app.uploads import read_file
from jobs.errors import InvalidImage, InvalidMask, TooLarge
from tests.app.conftest import files, serve
from tests.app.pictures import box_mask, encoded, photo


@pytest.mark.parametrize("what", ["image", "mask"])
def test_a_file_of_exactly_as_many_bytes_as_allowed_is_taken_and_one_more_is_not(what: str) -> None:
    assert read_file(io.BytesIO(b"x" * 10), 10, what) == b"x" * 10
    with pytest.raises(TooLarge, match=f"{what}: the file is larger than the 10 bytes"):
        read_file(io.BytesIO(b"x" * 11), 10, what)


def test_of_a_file_that_is_too_large_no_more_is_read_than_tells_so() -> None:
    file = io.BytesIO(b"x" * 1000)
    with pytest.raises(TooLarge):
        read_file(file, 10, "image")
    assert file.tell() == 11


@pytest.mark.parametrize(("what", "error"), [("image", InvalidImage), ("mask", InvalidMask)])
def test_an_empty_file_is_named(what: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{what}: the file is empty"):
        read_file(io.BytesIO(), 10, what)


@pytest.mark.anyio
async def test_an_upload_of_exactly_the_allowed_size_is_accepted_over_http(redis_url: str) -> None:
    image, mask = encoded(photo()), encoded(box_mask())
    settings = ApiSettings(redis_url=redis_url, max_image_bytes=len(image), max_mask_bytes=len(mask))
    async with serve(settings) as client:
        assert (await client.post("/v1/inpaint", files=files(image, mask))).status_code == 202
