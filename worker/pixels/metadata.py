"""An upload's EXIF and XMP, and what its results carry of them; read where the upload is decoded, in a child."""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from jobs import png_chunks
from jobs.file_structure import manifest_bytes
from jobs.outputs import METADATA_BYTES
from jobs.schema import ManifestAction, MetadataAction, MetadataChoice, MetadataReport
from worker.pixels import exif, xmp


@dataclass(frozen=True)
class Metadata:
    """What results carry: ``exif`` as an eXIf chunk has it, ``xmp`` as ``worker.pixels.xmp.packet`` takes it."""

    exif: bytes
    xmp: bytes
    report: MetadataReport


@dataclass(frozen=True)
class _Part:
    carried: bytes
    action: MetadataAction
    has_position: bool = False


def metadata_of(image: Image.Image, tags: Image.Exif, data: bytes, choice: MetadataChoice) -> Metadata:
    """``tags``: the image's EXIF. ``data``: its file. Raises nothing for damaged metadata: it is reported."""
    position = choice == "keep_gps"
    parts = (
        _part(lambda: exif.carried(tags, position), choice),
        _part(lambda: xmp.carried(_packet(image, data), position), choice),
    )
    actions = {part.action for part in parts if part.has_position}
    gps: MetadataAction = "none" if not actions else "kept" if position and "kept" in actions else "dropped"
    manifest: ManifestAction = "dropped" if manifest_bytes(data) else "none"  # until the result is signed
    report = MetadataReport(exif=parts[0].action, xmp=parts[1].action, gps=gps, c2pa=manifest)
    return Metadata(parts[0].carried, parts[1].carried, report)


def _part(read: Callable[[], tuple[bytes, bool]], choice: MetadataChoice) -> _Part:
    try:
        found, has_position = read()
    except MemoryError:
        raise
    except xmp.TooLong:
        return _Part(b"", "too_large")
    except Exception:  # parsers raise anything at all on garbage
        return _Part(b"", "unreadable")
    if len(found) > METADATA_BYTES:
        return _Part(b"", "too_large", has_position)
    if choice == "strip":
        return _Part(b"", "dropped" if found else "none", has_position)
    return _Part(found, "kept" if found else "none", has_position)


def _packet(image: Image.Image, data: bytes) -> bytes:
    """Pillow is not shown a PNG's texts."""
    if png_chunks.is_png(data):
        return (png_chunks.text_of(data, png_chunks.XMP) or "").encode()
    found = image.info.get("xmp", b"")
    return found.encode() if isinstance(found, str) else bytes(found)
