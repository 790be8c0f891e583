"""The formats in which results are made: what each can hold, how much room it takes, and whether it loses anything."""

from jobs.errors import InvalidField
from jobs.schema import BitDepth, OutputFormat

MEDIA_TYPES: dict[OutputFormat, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
}

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/avif": ".avif"}

SHOWN: dict[OutputFormat, str] = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP", "avif": "AVIF"}
"""As a sentence has it."""

QUALITY = 90
"""Where a request names none, of a format that has one."""

LONGEST_PX: dict[OutputFormat, int] = {"jpeg": 65_500, "webp": 16_383, "avif": 32_768}
"""A side: what libjpeg and libwebp write, and what readers with libavif take. A PNG's is beyond any upload's."""

METADATA_BYTES = 16 * 1024
"""Of a photo's EXIF, and again of its XMP, that a result carries at most; what is kept of longer ones is nothing."""

MANIFEST_BYTES = 2**20
"""Of a photo's C2PA manifests that a signed result carries at most, by the same rule."""
SIGNATURE_BYTES = 32 * 1024
"""A signed result's own manifest at most: its certificates are 16 KiB at most."""

UP_TO_USUAL, AT_BEST = 0, 1
SAMPLE_BYTES: dict[OutputFormat, tuple[float, float]] = {
    "png": (1.01, 1.01),
    "jpeg": (1.1, 2.4),
    "webp": (0.9, 1.2),
    "avif": (1.1, 1.8),
}
"""What a sample takes at most, at a quality up to ``QUALITY`` and above it. Deflate lengthens what it cannot compress
by less than 1 %. The others were measured with noise, also of 0 and 255 alone, and have a tenth to spare."""


def quality_of(output_format: OutputFormat, asked: int | None) -> int | None:
    """The quality that a result is encoded with; None for PNG. Raises InvalidField where there is none to ask for."""
    if output_format == "png":
        if asked is not None:
            lossy = ", ".join(name for name in MEDIA_TYPES if name != "png")
            raise InvalidField(
                f"output_quality: a PNG has none, it loses nothing. Leave it out, or send output_format: {lossy}."
            )
        return None
    return QUALITY if asked is None else asked


def check_depth(output_format: OutputFormat, bit_depth: BitDepth) -> None:
    """Raise InvalidField where 16 bits are to be kept in a format that has none."""
    if bit_depth == "keep" and output_format != "png":
        raise InvalidField(
            f"bit_depth, output_format: {SHOWN[output_format]} holds no 16 bits a channel. Send output_format=png, or "
            "bit_depth=8."
        )


def is_lossless(output_format: OutputFormat, quality: int | None) -> bool:
    """Whether every value of the result is in its file. The best quality of WebP is its lossless kind."""
    return output_format == "png" or (output_format == "webp" and quality == 100)


def check_output(output_format: OutputFormat, size: tuple[int, int], alpha: bool) -> None:
    """Raise InvalidField for a photo whose result the format cannot hold.

    Args:
        size: the photo's width and height.
        alpha: whether it has an alpha channel or a transparent colour.
    """
    if output_format == "jpeg" and alpha:
        raise InvalidField(
            "output_format: the photo has transparency (an alpha channel or a transparent colour), and so has its "
            "result, which a JPEG cannot hold. Send png, webp or avif, or a photo without transparency."
        )
    longest_px = LONGEST_PX.get(output_format)
    if longest_px and max(size) > longest_px:
        fits = [name for name in MEDIA_TYPES if max(size) <= LONGEST_PX.get(name, max(size))]
        raise InvalidField(
            f"output_format: of {SHOWN[output_format]} a side has at most {longest_px} pixels, and the image is "
            f"{size[0]} x {size[1]}. What can hold it: {', '.join(fits)}."
        )


def file_bytes(
    output_format: OutputFormat, quality: int | None, size: tuple[int, int], channels: int, bits: int = 8
) -> int:
    """The bytes of an encoded picture at most, without what is carried beside its pixels."""
    width, height = size
    samples = width * _channels_in(output_format, channels) * bits // 8 + (
        output_format == "png"
    )  # which has a byte for each row
    return int(height * samples * SAMPLE_BYTES[output_format][AT_BEST if (quality or 0) > QUALITY else UP_TO_USUAL])


def manifest_room(uploaded: int) -> int:
    """The bytes that a signed result's manifests take at most; ``uploaded``: those of the photo's.

    What is found when they are checked is written down beside them, and is no longer than they are.
    """
    return SIGNATURE_BYTES + 2 * min(uploaded, MANIFEST_BYTES)


def _channels_in(output_format: OutputFormat, channels: int) -> int:
    """Of a picture with so many: WebP has no grey, and AVIF none with alpha."""
    as_colour = output_format == "webp" or (output_format == "avif" and channels == 2)
    return channels + 2 if as_colour and channels < 3 else channels
