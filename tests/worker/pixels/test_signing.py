"""Results signed by C2PA: what they say, what becomes of an upload's manifest, and that it stays within limits."""

import io
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import c2pa
import numpy as np
import pytest
from PIL import Image

from jobs.errors import SigningFailed
from jobs.file_structure import manifest_bytes
from jobs.outputs import MANIFEST_BYTES, SIGNATURE_BYTES, manifest_room
from jobs.png_chunks import is_png, without
from jobs.sandbox.errors import Limits
from jobs.schema import Extension, JobReport, ManifestAction, OutputFormat
from tests.factories import encoded, inpaint_parameters, noise, png
from tests.png_files import with_chunks
from tests.worker import exiftool
from tests.worker.certificates import ROOT, chain_of, key_of, pem_of, usual
from tests.worker.painting import MASK, repaint
from worker.pixels import credentials, manifests
from worker.pixels.encoding import writer_of
from worker.pixels.signing import LIMITS, Signers, Statement

FORMATS = get_args(OutputFormat)
IMAGE = Image.fromarray(noise((*MASK.shape, 3)))
PHOTO = png(noise((*MASK.shape, 3)))
UPLOADS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF")
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
BOX = {"x": 10.0, "y": 20.0}, {"width": 30.0, "height": 20.0}
STATEMENT = Statement(inpaint_parameters(), "png", (10, 20, 40, 40))
TRUSTING = {"trust": {"trust_anchors": chain_of([ROOT.root]).decode()}, "verify": {"remote_manifest_fetch": False}}


@pytest.fixture(scope="module")
def sign() -> Iterator[Signers]:
    signers = Signers(credentials.checked(*usual()), 1)
    signers.check()
    yield signers
    signers.close()


def read(file: bytes, media_type: str = "image/png", settings: dict[str, Any] = TRUSTING) -> dict[str, Any]:
    """What c2pa's own reader finds, with the tests' root as the one it trusts."""
    with c2pa.Context(c2pa.Settings.from_dict(settings)) as context:
        return dict(json.loads(c2pa.Reader(media_type, io.BytesIO(file), context=context).json()))


def active(file: bytes, media_type: str = "image/png") -> dict[str, Any]:
    found = read(file, media_type)
    return dict(found["manifests"][found["active_manifest"]])


def actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    (said,) = [each["data"]["actions"] for each in manifest["assertions"] if each["label"] == "c2pa.actions.v2"]
    return list(said)


def fate(report: JobReport) -> str:
    assert report.picture and report.picture.metadata
    return report.picture.metadata.c2pa


def manifested(
    kind: str,
    assertions: list[dict[str, Any]] | None = None,
    thumbnail: bytes = b"small",
    parameters: dict[str, str] | None = None,
    compressed: bool = False,
) -> bytes:
    """A photo with a valid manifest of somebody else's."""
    settings = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"verify_trust": False},
        "core": {"prefer_compress_manifests": compressed},
    }
    source = SOURCE.rsplit("/", 1)[0] + "/digitalCapture"
    created = {"action": "c2pa.created", "digitalSourceType": source, "parameters": parameters or {}}
    made = [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}, *(assertions or [])]
    chain, key = usual()
    file, media_type = io.BytesIO(), f"image/{kind.lower()}"
    with c2pa.Context(c2pa.Settings.from_dict(settings)) as context:
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, key, None))
        shown = {"format": "image/jpeg", "identifier": "thumbnail"}
        said = {"claim_generator_info": [{"name": "Camera"}], "assertions": made, "thumbnail": shown}
        builder = c2pa.Builder(said, context)
        builder.add_resource("thumbnail", io.BytesIO(thumbnail))
        builder.sign(signer, media_type, io.BytesIO(encoded(IMAGE, kind)), file)
    return file.getvalue()


@pytest.fixture(scope="module")
def uploads() -> dict[str, bytes]:
    return {kind: manifested(kind) for kind in UPLOADS}


# ---- what a result says


@pytest.fixture(scope="module")
def results(sign: Signers) -> dict[str, tuple[bytes, bytes]]:
    """In each format: as it was written, and signed."""

    def both(kind: OutputFormat) -> tuple[bytes, bytes]:
        plain = list[bytes]()

        def kept(result: bytes, upload: bytes, statement: Statement) -> Any:
            plain.append(result)
            return sign(result, upload, statement)

        (signed,) = repaint(PHOTO, sign=kept, output_format=kind, prompt="SECRET words")[1]
        return plain[0], signed

    return {kind: both(kind) for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_result_says_what_was_edited_where_and_by_what(results: dict[str, tuple[bytes, bytes]], kind: str) -> None:
    _, signed = results[kind]
    found = read(signed, f"image/{kind}")
    assert found["validation_state"] == "Trusted"
    manifest = found["manifests"][found["active_manifest"]]
    assert manifest["claim_generator_info"][0]["name"] == "Infill"
    assert manifest["signature_info"]["common_name"] == "signer"
    assert all(each["created"] for each in manifest["assertions"])
    opened, edited, *rest = actions(manifest)
    assert opened["action"] == "c2pa.opened" and len(opened["parameters"]["ingredients"]) == 1
    assert (edited["action"], edited["digitalSourceType"]) == ("c2pa.edited", SOURCE)
    assert edited["softwareAgent"]["name"] == "tiny" and edited["when"].endswith("Z")
    (change,) = edited["changes"]
    (region,) = change["region"]
    shape = {"type": "rectangle", "unit": "pixel", "origin": BOX[0], **BOX[1]}
    assert region == {"type": "spatial", "shape": shape}
    assert [action["action"] for action in rest] == ([] if kind == "png" else ["c2pa.converted"])
    (ingredient,) = manifest["ingredients"]
    assert (ingredient["title"], ingredient["format"], ingredient["relationship"]) == (
        "upload",
        "image/png",
        "parentOf",
    )
    assert "active_manifest" not in ingredient and "thumbnail" not in ingredient
    assert b"SECRET" not in signed


@pytest.mark.parametrize("kind", FORMATS)
def test_a_signature_changes_no_pixel_and_nothing_else_of_the_file(
    results: dict[str, tuple[bytes, bytes]], kind: str
) -> None:
    plain, signed = results[kind]
    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(signed)) as other:
        assert one.mode == other.mode and one.tobytes() == other.tobytes()
        for name in ("exif", "xmp", "icc_profile", "XML:com.adobe.xmp", "infill"):
            assert one.info.get(name) == other.info.get(name)
    assert 0 < len(signed) - len(plain) < SIGNATURE_BYTES
    if is_png(signed):
        assert without(signed, b"caBX") == plain


MODES = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FORMATS)
def test_no_pixel_of_any_kind_is_changed_in_a_file_without_anything_else_in_it(
    sign: Signers, kind: OutputFormat, mode: str
) -> None:
    if kind == "jpeg" and mode.endswith("A"):
        return
    pixels, quality = noise((48, 64, *MODES[mode])), 100 if kind == "webp" else None
    fields = inpaint_parameters(output_format=kind, output_quality=quality)
    plain = writer_of(fields, pixels, ()).finish({"infill": "{}"})
    signed, _ = sign(plain, b"", Statement(fields, "png", (0, 0, 9, 9)))
    assert read(signed, f"image/{kind}")["validation_state"] == "Trusted"
    with Image.open(io.BytesIO(plain)) as one, Image.open(io.BytesIO(signed)) as other:
        assert one.mode == other.mode and one.tobytes() == other.tobytes()


def test_exiftool_reads_it(results: dict[str, tuple[bytes, bytes]], tmp_path: Path) -> None:
    """Debian's knows where it lies in JPEG and PNG. What AVIF and WebP have is shown to it in a PNG."""
    files = {kind: results[kind][1] for kind in ("png", "jpeg")}
    for kind in ("avif", "webp"):
        signed = results[kind][1]
        at, size = signed.index(b"jumdc2pa") - 12, manifest_bytes(signed)
        files[kind] = with_chunks(PHOTO, (b"caBX", signed[at : at + size]))
    for kind, found in exiftool.read(tmp_path, files, "-jumbf:all").items():
        assert found["CBOR:ActionsDigitalSourceType"] == SOURCE and found["CBOR:Title"] == "upload"
        assert found["CBOR:ActionsAction"] == ["c2pa.opened", "c2pa.edited", *["c2pa.converted"] * (kind != "png")]
        assert [found[f"CBOR:ActionsChangesRegionShape{name}"] for name in ("OriginX", "OriginY")] == [10, 20]
        assert not any("Warning" in tag for tag in found)


@pytest.mark.parametrize("kind", FORMATS)
def test_it_lies_where_the_format_has_it(results: dict[str, tuple[bytes, bytes]], kind: str) -> None:
    """C2PA specification 2.4, appendix A."""
    box = b"uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
    before = {"png": b"caBX", "jpeg": b"JP", "webp": b"C2PA", "avif": box}
    signed = results[kind][1]
    assert before[kind] in signed[: signed.index(b"jumdc2pa")]


def test_one_changed_byte_is_noticed(results: dict[str, tuple[bytes, bytes]]) -> None:
    for kind, (_, signed) in results.items():
        changed = bytearray(signed)
        changed[-20] ^= 1
        assert read(bytes(changed), f"image/{kind}")["validation_state"] == "Invalid"


@pytest.mark.parametrize(
    ("task", "word"), [("fill", "part"), ("remove", "painted over"), ("replace_background", "background")]
)
def test_the_task_is_said(sign: Signers, task: str, word: str) -> None:
    _, (signed,) = repaint(PHOTO, sign=sign, task=task)
    assert word in actions(active(signed))[1]["description"]


def test_an_extended_picture_says_so_and_names_its_borders(sign: Signers) -> None:
    extension = Extension(left=5, top=0, right=0, bottom=7, width=69, height=55)
    mask = np.full((55, 69), 255, np.uint8)
    mask[:48, 5:] = 0
    _, (signed,) = repaint(PHOTO, mask, sign=sign, task="extend", extend=extension)
    opened, resized, edited = actions(active(signed))
    assert [opened["action"], resized["action"]] == ["c2pa.opened", "c2pa.resized"]
    assert "borders" in edited["description"]
    shapes = [change["region"][0]["shape"] for change in edited["changes"]]
    corners = [(shape["origin"]["x"], shape["origin"]["y"], shape["width"], shape["height"]) for shape in shapes]
    assert corners == [(0, 0, 5, 48), (0, 48, 69, 7)]


def test_every_one_of_several_images_is_signed(sign: Signers, uploads: dict[str, bytes]) -> None:
    report, images = repaint(uploads["JPEG"], sign=sign, n=3)
    assert {read(image)["validation_state"] for image in images} == {"Trusted"}
    assert [image.size_bytes for image in report.images] == [len(image) for image in images]


@pytest.mark.parametrize("kind", ["p256", "p384", "p521", "ed25519", "rsa2048"])
def test_every_kind_of_key_of_c2pa_signs(kind: str) -> None:
    key = key_of(kind)
    signers = Signers(credentials.checked(chain_of([ROOT.certificate(key), ROOT.root]), pem_of(key)), 1)
    try:
        signers.check()
        _, (signed,) = repaint(PHOTO, sign=signers)
    finally:
        signers.close()
    assert read(signed)["validation_state"] == "Trusted"


# ---- what becomes of the upload's manifest


@pytest.mark.parametrize("kind", UPLOADS)
def test_a_valid_manifest_becomes_an_ingredient(sign: Signers, uploads: dict[str, bytes], kind: str) -> None:
    report, (signed,) = repaint(uploads[kind], sign=sign)
    assert fate(report) == "kept"
    found = read(signed)
    (ingredient,) = found["manifests"][found["active_manifest"]]["ingredients"]
    assert found["manifests"][ingredient["active_manifest"]]["claim_generator_info"][0]["name"] == "Camera"
    assert ingredient["validation_results"]["activeManifest"]["failure"] == []
    assert ingredient["relationship"] == "parentOf" and found["validation_state"] == "Trusted"


def test_one_that_does_not_hold_becomes_an_ingredient_that_says_so(sign: Signers, uploads: dict[str, bytes]) -> None:
    changed = bytearray(uploads["JPEG"])
    changed[-20] ^= 1
    report, (signed,) = repaint(bytes(changed), sign=sign)
    assert fate(report) == "invalid"
    (ingredient,) = active(signed)["ingredients"]
    failures = [each["code"] for each in ingredient["validation_results"]["activeManifest"]["failure"]]
    assert failures == ["assertion.dataHash.mismatch"]
    assert read(signed)["validation_state"] == "Trusted"


def test_a_result_that_is_edited_again_keeps_its_whole_history(sign: Signers, uploads: dict[str, bytes]) -> None:
    file = uploads["PNG"]
    for count in (2, 3, 4):
        report, (file,) = repaint(file, sign=sign)
        found = read(file)
        assert fate(report) == "kept" and len(found["manifests"]) == count
        assert found["validation_state"] == "Trusted"


def redacted(file: bytes) -> list[str]:
    found = [each["parameters"]["redacted"] for each in actions(active(file)) if each["action"] == "c2pa.redacted"]
    return sorted(each.rsplit("/", 1)[1] for each in found)


def test_no_thumbnail_of_the_photo_before_its_edit_is_left_and_that_is_said(sign: Signers) -> None:
    upload = manifested("JPEG", thumbnail=b"SECRET" * 100)
    for _ in range(3):
        report, (upload,) = repaint(upload, sign=sign)
        assert fate(report) == "kept" and b"SECRET" not in upload
        assert read(upload)["validation_state"] == "Trusted"
    _, (once,) = repaint(manifested("JPEG", thumbnail=b"SECRET" * 100), sign=sign)
    assert redacted(once) == ["c2pa.thumbnail.claim"] and redacted(upload) == []


PLACES = {
    "exif:GPSLatitude": "39,21.102N",
    "Iptc4xmpExt:LocationCreated": {"Iptc4xmpExt:City": "SECRET"},
    "photoshop:City": "SECRET",
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("choice", ["keep", "keep_gps"])
def test_a_place_in_one_is_kept_only_where_the_place_is(sign: Signers, choice: str, name: str) -> None:
    place = {"label": "org.test.words", "data": {"words": {name: PLACES[name]}}}
    other = {"label": "org.test.other", "data": {"words": "kept"}}
    report, (signed,) = repaint(manifested("JPEG", [place, other]), sign=sign, metadata=choice)
    assert fate(report) == "kept" and b"org.test.other" in signed
    assert read(signed)["validation_state"] == "Trusted"
    kept = choice == "keep_gps"
    assert (name.encode() in signed) == kept
    assert ("org.test.words" in redacted(signed)) == (not kept)


@pytest.mark.parametrize(("choice", "carried"), [("keep", "dropped"), ("keep_gps", "kept")])
def test_one_that_names_a_place_where_nothing_may_be_left_out_is_kept_only_where_the_place_is(
    sign: Signers, choice: str, carried: str
) -> None:
    parameters = {"org.test.location": "SECRET"}
    report, (signed,) = repaint(manifested("JPEG", parameters=parameters), sign=sign, metadata=choice)
    assert fate(report) == carried and (b"SECRET" in signed) == (carried == "kept")


def test_nothing_of_one_is_kept_with_strip(sign: Signers, uploads: dict[str, bytes]) -> None:
    report, (signed,) = repaint(uploads["JPEG"], sign=sign, metadata="strip")
    assert fate(report) == "dropped" and len(read(signed)["manifests"]) == 1 and b"Camera" not in signed


@pytest.mark.parametrize("kind", UPLOADS)
@pytest.mark.parametrize("output", FORMATS)
def test_without_a_key_none_is_left_in_a_result(uploads: dict[str, bytes], kind: str, output: str) -> None:
    uploaded = uploads[kind]
    assert manifest_bytes(uploaded)
    report, (result,) = repaint(uploaded, output_format=output)
    assert fate(report) == "dropped"
    assert not any(word in result for word in (b"jumb", b"c2pa", b"caBX", b"C2PA", b"Camera"))
    with pytest.raises(c2pa.C2paError, match="ManifestNotFound"):
        read(result, f"image/{output}")


def test_one_of_more_bytes_than_are_carried_is_left_out(sign: Signers) -> None:
    report, (signed,) = repaint(manifested("JPEG", thumbnail=bytes(MANIFEST_BYTES)), sign=sign)
    assert fate(report) == "too_large" and len(signed) < len(PHOTO) + 2 * SIGNATURE_BYTES
    assert read(signed)["validation_state"] == "Trusted"


def test_a_compressed_one_is_kept_but_not_one_whose_check_takes_more_room_than_itself(sign: Signers) -> None:
    assertion = {"label": "org.test.words", "data": {"words": "x" * 1_000}}
    for count, expected in ((1, "kept"), (300, "too_large")):
        upload = manifested("JPEG", [assertion] * count, compressed=True)
        assert b"brob" in upload and manifest_bytes(upload) < 20_000
        report, (signed,) = repaint(upload, sign=sign)
        assert fate(report) == expected and read(signed)["validation_state"] == "Trusted"
        assert len(signed) - len(PHOTO) < manifest_room(manifest_bytes(upload))


def test_one_that_lies_about_its_length_is_left_out(sign: Signers) -> None:
    honest = manifested("PNG", thumbnail=bytes(MANIFEST_BYTES // 2))
    at = honest.index(b"jumb") - 4
    for length in (0, 1, 100, 2**32 - 1):
        lying = bytearray(honest)
        lying[at : at + 4] = struct.pack(">I", length)
        report, (signed,) = repaint(bytes(lying), sign=sign)
        assert fate(report) in ("too_large", "unreadable") and len(read(signed)["manifests"]) == 1


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"jumb" * 20_000, os.urandom(1000)])
def test_garbage_in_its_place_is_said(sign: Signers, uploads: dict[str, bytes], garbage: bytes) -> None:
    whole = uploads["JPEG"]
    at = whole.index(b"jumdc2pa") + 60
    report, (signed,) = repaint(whole[:at] + garbage[:1000].ljust(1000, b"\1") + whole[at + 1000 :], sign=sign)
    assert fate(report) in ("unreadable", "invalid") and read(signed)["validation_state"] == "Trusted"


# ---- the network, limits, failures


def referring(port: int) -> bytes:
    """A photo that names an address for its manifest, and seems to have one inside, too."""
    text = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/" '
        f'dcterms:provenance="http://127.0.0.1:{port}/manifest.c2pa"/></rdf:RDF></x:xmpmeta>'
    )
    store = struct.pack(">I4sI4s", 100, b"jumb", 25, b"jumd") + bytes.fromhex("6332706100110010800000aa00389b71")
    return encoded(IMAGE, "JPEG", xmp=text.encode()) + store


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        yield listening


def test_no_manifest_makes_the_worker_call_an_address(sign: Signers, listener: socket.socket) -> None:
    uploaded = referring(listener.getsockname()[1])
    report, (signed,) = repaint(uploaded, sign=sign)
    assert fate(report) == "unreadable" and read(signed)["validation_state"] == "Trusted"
    with pytest.raises(TimeoutError):
        listener.accept()


def _hang_up(listener: socket.socket) -> None:
    listener.accept()[0].close()


def test_the_library_by_itself_would_call_and_with_our_settings_does_not(listener: socket.socket) -> None:
    uploaded = referring(listener.getsockname()[1])
    with pytest.raises(c2pa.C2paError, match="must fetch"):
        read(uploaded, "image/jpeg", manifests.SETTINGS)
    with pytest.raises(c2pa.C2paError, match="not permitted"):  # what would fetch it all the same is stopped, too
        read(uploaded, "image/jpeg", {"core": manifests.SETTINGS["core"]})
    with pytest.raises(TimeoutError):
        listener.accept()
    answering = threading.Thread(target=_hang_up, args=(listener,))
    listener.settimeout(20)
    answering.start()
    with pytest.raises(c2pa.C2paError, match="could not fetch"):
        read(uploaded, "image/jpeg", {"verify": {"verify_trust": False}})
    answering.join()


def test_while_manifests_are_read_no_descriptor_can_be_opened() -> None:
    with manifests._no_descriptors():
        for opened in (socket.socket, Path("/etc/hostname").read_bytes):
            with pytest.raises(OSError, match="Too many open files"):
                opened()
    socket.socket().close()


def limited(**changed: Any) -> Signers:
    fields = {name: getattr(LIMITS, name) for name in Limits.__dataclass_fields__} | changed
    return Signers(credentials.checked(*usual()), 1, Limits(**fields))


def test_a_result_that_the_child_cannot_take_fails_its_job_and_the_next_one_is_signed() -> None:
    signers = limited(input_bytes=40_000)
    try:
        with pytest.raises(SigningFailed, match="not delivered") as caught:
            repaint(
                png(noise((200, 200, 3))), np.full((200, 200), 255, np.uint8) * (noise((200, 200)) > 9), sign=signers
            )
        assert caught.value.code == "signing_failed" and not caught.value.retryable
        _, (signed,) = repaint(PHOTO, sign=signers)
    finally:
        signers.close()
    assert read(signed)["validation_state"] == "Trusted"


def test_what_was_too_much_is_not_tried_with_every_image() -> None:
    tried = list[bool]()

    def sign(result: bytes, upload: bytes, _: Statement) -> tuple[bytes, ManifestAction]:
        tried.append(bool(upload))
        return result, "unreadable" if upload else "none"

    report, images = repaint(PHOTO, sign=sign, n=3)
    assert tried == [True, False, False] and fate(report) == "unreadable" and len(images) == 3


def test_an_upload_that_is_too_much_for_the_child_costs_only_its_manifest(uploads: dict[str, bytes]) -> None:
    signers = limited(input_bytes=len(PHOTO) + 10_000)
    try:
        report, (signed,) = repaint(uploads["TIFF"], sign=signers)
    finally:
        signers.close()
    assert fate(report) == "unreadable" and read(signed)["validation_state"] == "Trusted"


def test_without_memory_or_time_nothing_unsigned_is_delivered() -> None:
    for changed in ({"memory_bytes": 1 << 22}, {"cpu_s": 1e-3}, {"wall_s": 1e-3}):
        signers = limited(**changed)
        try:
            with pytest.raises(SigningFailed):
                signers(png(noise((2000, 2000, 3))), PHOTO, STATEMENT)
        finally:
            signers.close()


def test_the_longest_chain_fits_into_the_room_that_is_counted() -> None:
    key = key_of("p256")
    certificate = ROOT.certificate(key, comment="a" * 9_000)
    chain = chain_of([certificate])
    assert credentials.MAX_CHAIN_BYTES * 0.7 < len(chain) < credentials.MAX_CHAIN_BYTES
    signers = Signers(credentials.checked(chain, pem_of(key)), 1)
    extension = Extension(left=5, top=5, right=5, bottom=7, width=74, height=60)
    statement = Statement(inpaint_parameters(task="extend", extend=extension, model="m" * 200), "jpeg", (0, 0, 74, 60))
    try:
        signed, _ = signers(PHOTO, PHOTO, statement)
    finally:
        signers.close()
    assert len(signed) - len(PHOTO) < SIGNATURE_BYTES
