"""Bodies of multipart/form-data, written byte for byte."""

from tests.app.pictures import box_mask, photo
from tests.factories import encoded

KIND = "multipart/form-data; boundary=x"
IMAGE = encoded(photo((16, 12)))
MASK = encoded(box_mask((16, 12), (2, 2, 9, 9)))


def part(content: bytes, *headers: str) -> bytes:
    return b"--x\r\n" + "".join(f"{header}\r\n" for header in headers).encode() + b"\r\n" + content + b"\r\n"


def named(name: str, *parameters: str) -> str:
    """The header that names a part's field."""
    return "; ".join(["Content-Disposition: form-data", f'name="{name}"', *parameters])


def text(name: str, value: str) -> bytes:
    return part(value.encode(), named(name))


def file(name: str, content: bytes) -> bytes:
    return part(content, named(name, 'filename="a.png"'))


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


PAIR = file("image", IMAGE), file("mask", MASK)
FIND_A_SUBJECT = {"mask_points", "mask_subject", "mask_prompt", "mask_model"}
"""Fields that go without a mask file: test_selections.py, test_segmenters.py."""
