"""What results keep of a photo's EXIF and XMP, what they leave out, and that both are said."""

import io
import struct
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import IFDRational

from jobs.outputs import METADATA_BYTES
from jobs.png_chunks import XMP
from jobs.schema import MetadataReport, OutputFormat
from tests.factories import encoded, noise, png
from tests.png_files import chunks_of, with_chunks
from tests.worker import exiftool
from tests.worker.painting import MASK, repaint

IMAGE = Image.fromarray(noise((*MASK.shape, 3)))
KINDS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF")

EXIF = Image.Exif()
EXIF.update({
    Base.Make: "Canon", Base.Artist: "José".encode(), Base.Software: "firmware", Base.Orientation: 3,
    Base.DateTime: "2024:05:06 07:08:09",
})  # fmt: skip
EXIF.get_ifd(IFD.Exif).update({
    Base.FNumber: IFDRational(28, 10), Base.ExposureBiasValue: IFDRational(-1, 3), Base.LensModel: "EF50mm",
    Base.DateTimeOriginal: "2024:01:02 03:04:05", Base.BodySerialNumber: "SERIAL", Base.MakerNote: b"SECRET" * 9,
    Base.UserComment: b"ASCII\0\0\0SECRET",
})  # fmt: skip
EXIF.get_ifd(IFD.GPSInfo).update({1: "S", 2: (IFDRational(50), IFDRational(1), IFDRational(2))})

PROPERTIES = """
  photoshop:City="Bonn" photoshop:Credit="agency" xmp:CreatorTool="Lightroom" tiff:Orientation="3"
  dcterms:provenance="self#jumbf=c2pa">
  <dc:creator><rdf:Seq><rdf:li>José</rdf:li></rdf:Seq></dc:creator>
  <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© José</rdf:li></rdf:Alt></dc:rights>
  <Iptc4xmpExt:DigitalSourceType>digitalCapture</Iptc4xmpExt:DigitalSourceType>
  <xmpMM:History><rdf:Seq><rdf:li>SECRET</rdf:li></rdf:Seq></xmpMM:History>"""
KEPT = {
    "IFD0:Make": "Canon",
    "IFD0:Artist": "José",
    "ExifIFD:FNumber": 2.8,
    "ExifIFD:LensModel": "EF50mm",
    "ExifIFD:DateTimeOriginal": "2024:01:02 03:04:05",
    "XMP-dc:Creator": "José",
    "XMP-dc:Rights": "© José",
    "XMP-photoshop:Credit": "agency",
}
PLACE = {"GPS:GPSLatitude": pytest.approx(50 + 1 / 60 + 2 / 3600), "XMP-photoshop:City": "Bonn"}


def packet(properties: str = PROPERTIES) -> bytes:
    spaces = {
        "dc": "http://purl.org/dc/elements/1.1/", "xmp": "http://ns.adobe.com/xap/1.0/",
        "xmpMM": "http://ns.adobe.com/xap/1.0/mm/", "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        "tiff": "http://ns.adobe.com/tiff/1.0/", "dcterms": "http://purl.org/dc/terms/",
        "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    }  # fmt: skip
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in spaces.items())
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {declared} {properties}</rdf:Description></rdf:RDF></x:xmpmeta>'
        + " " * 200 + '<?xpacket end="w"?>'
    ).encode()  # fmt: skip


def photo(kind: str, exif: Image.Exif = EXIF, xmp: bytes | None = None) -> bytes:
    xmp = packet() if xmp is None else xmp
    if kind == "PNG":
        return with_chunks(encoded(IMAGE, kind, exif=exif), (b"iTXt", XMP + b"\0\0\0\0\0" + xmp))
    if kind == "TIFF":
        with_xmp = Image.Exif()
        with_xmp.load(exif.tobytes())
        with_xmp[700] = xmp
        return encoded(IMAGE, kind, exif=with_xmp)
    return encoded(IMAGE, kind, exif=exif, xmp=xmp)


def reported(photo: bytes, **asked: Any) -> tuple[MetadataReport, bytes]:
    report, (result,) = repaint(photo, **asked)
    assert report.picture and report.picture.metadata
    return report.picture.metadata, result


def said(exif: str = "none", xmp: str = "none", gps: str = "none") -> MetadataReport:
    return MetadataReport.model_validate({"exif": exif, "xmp": xmp, "gps": gps})


@pytest.mark.parametrize("kind", KINDS)
def test_camera_author_and_rights_are_kept_and_the_place_is_if_asked(kind: str, tmp_path: Path) -> None:
    uploaded, files = photo(kind), {}
    for choice, gps in (("keep", "dropped"), ("keep_gps", "kept")):
        report, files[choice] = reported(uploaded, metadata=choice)
        assert report == said("kept", "kept", gps)
    report, files["strip"] = reported(uploaded, metadata="strip")
    assert report == said("dropped", "dropped", "dropped")
    seen = exiftool.read(tmp_path, files)
    kept = KEPT | ({"IFD0:Artist": "Jos??"} if kind in ("TIFF", "AVIF") else {})  # so Pillow writes these uploads
    assert seen["keep"].items() >= kept.items() and seen["keep_gps"].items() >= (kept | PLACE).items()
    assert seen["keep"]["ExifIFD:ExposureCompensation"] == pytest.approx(-1 / 3)
    assert PLACE.keys().isdisjoint(seen["keep"])
    assert (KEPT | PLACE).keys().isdisjoint(seen["strip"])
    assert not any("Warning" in tag for found in seen.values() for tag in found)


@pytest.mark.parametrize("output", get_args(OutputFormat))
def test_every_format_of_a_result_has_the_same(output: OutputFormat, tmp_path: Path) -> None:
    _, result = reported(photo("JPEG"), metadata="keep_gps", output_format=output)
    assert exiftool.read(tmp_path, {"a": result})["a"].items() >= (KEPT | PLACE).items()


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_hold_any_more_or_names_a_device_is_left_out(kind: str, tmp_path: Path) -> None:
    _, result = reported(photo(kind), metadata="keep_gps")
    assert not any(word in result for word in (b"SECRET", b"SERIAL", b"firmware", b"jumbf", b"Lightroom"))
    found = exiftool.read(tmp_path, {"a": result})["a"]
    tags = {tag.split(":")[-1] for tag in found}
    assert tags.isdisjoint({"Orientation", "ModifyDate", "ThumbnailImage", "History", "Provenance"})
    assert found["XMP-iptcExt:DigitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")


def test_without_a_mark_what_the_photo_says_is_kept_alone(tmp_path: Path) -> None:
    _, result = reported(photo("JPEG"), marks=False)
    found = exiftool.read(tmp_path, {"a": result})["a"]
    assert found.items() >= KEPT.items()
    assert {"XMP-iptcExt:DigitalSourceType", "XMP-xmp:CreatorTool"}.isdisjoint(found)


def test_a_photo_that_says_nothing_of_itself_is_reported_so() -> None:
    report, result = reported(png(noise((*MASK.shape, 3))))
    assert report == said()
    assert [kind for kind, _ in chunks_of(result)] == [b"IHDR", b"iTXt", b"iTXt", b"IDAT", b"IEND"]


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha"}">' for n in range(12))
HOSTILE = {
    "no XML": (b"<<<", "unreadable"),
    "no XMP": (b"<a/>", "unreadable"),
    "a billion laughs": (f"<!DOCTYPE x [{LAUGHS}]>".encode() + packet("><dc:source>&l11;</dc:source>"), "unreadable"),
    "a document type": (b'<!DOCTYPE x [<!ENTITY a "b">]>' + packet("><dc:source>&a;</dc:source>"), "unreadable"),
    "a file": (b'<!DOCTYPE x [<!ENTITY f SYSTEM "/etc/passwd">]><x>&f;</x>', "unreadable"),
    "a document type in UTF-16": ("\ufeff<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>".encode("utf-16"), "unreadable"),
    "too deep": (packet("><dc:source>" + "<a>" * 8_000 + "</a>" * 8_000 + "</dc:source>"), "unreadable"),
    "too long": (packet(f"><dc:source>{'a' * METADATA_BYTES}</dc:source>"), "too_large"),
    "longer than is read": (packet(">" + " " * 2**20), "too_large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_xmp_is_left_out_and_said(name: str) -> None:
    xmp, action = HOSTILE[name]
    report, result = reported(photo("PNG", xmp=xmp))
    assert (report.xmp, report.exif) == (action, "kept")
    assert b"root:" not in result and len(result) < len(encoded(IMAGE)) + 10_000


def test_text_from_a_packet_cannot_become_markup(tmp_path: Path) -> None:
    evil = packet('><photoshop:Credit>&lt;/rdf:Description&gt;&amp;"&#9;</photoshop:Credit>')
    _, result = reported(photo("PNG", xmp=evil))
    found = exiftool.read(tmp_path, {"a": result})["a"]
    assert found["XMP-photoshop:Credit"] == '</rdf:Description>&"\t'
    assert found["XMP-iptcExt:AISystemUsed"] == "tiny"


def test_exif_that_is_too_long_or_damaged_is_left_out_and_said() -> None:
    long = Image.Exif()
    long[Base.ImageDescription] = "a" * METADATA_BYTES
    assert reported(photo("JPEG", exif=long))[0] == said("too_large", "kept", "dropped")
    looping = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIII", 1, IFD.Exif, 4, 1, 10**9, 0)
    report, _ = reported(with_chunks(encoded(IMAGE), (b"eXIf", looping)))
    assert report.exif in ("none", "unreadable")


def test_no_manifest_of_the_photo_is_left_on_a_picture_that_was_changed() -> None:
    manifest = b"jumb" + b"c2pa" * 20
    app11 = b"\xff\xeb" + struct.pack(">H", len(manifest) + 2) + manifest
    jpeg = encoded(IMAGE, "JPEG")
    webp = encoded(IMAGE, "WEBP")
    body = webp[8:] + b"C2PA" + struct.pack("<I", len(manifest)) + manifest
    uploads = {
        "png": with_chunks(encoded(IMAGE), (b"caBX", manifest)),
        "jpeg": jpeg[:2] + app11 + jpeg[2:],
        "webp": b"RIFF" + struct.pack("<I", len(body)) + body,
    }
    for uploaded in uploads.values():
        for kind in get_args(OutputFormat):
            assert b"c2pa" in uploaded and b"c2pa" not in reported(uploaded, output_format=kind)[1]


def test_a_result_is_upright_and_says_no_orientation() -> None:
    _, result = reported(photo("JPEG"))
    with Image.open(io.BytesIO(result)) as image:
        assert Base.Orientation not in image.getexif()
