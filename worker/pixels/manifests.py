"""C2PA manifests (specification 2.2): what a result's says, and how it is signed and bound to the file, in a child.

c2pa-python parses the manifests of strangers. It is run in a child (``signing.py``), with its network switched off, and
with no descriptor left to open: neither a socket nor a file.
"""

import contextlib
import io
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import c2pa

from jobs.errors import BadCredentials
from jobs.file_structure import manifest_bytes
from jobs.outputs import manifest_room
from jobs.schema import ManifestAction

PURPOSES = (
    "1.3.6.1.5.5.7.3.4",  # emailProtection
    "1.3.6.1.5.5.7.3.36",  # documentSigning
    "1.3.6.1.5.5.7.3.8",  # timeStamping
    "1.3.6.1.5.5.7.3.9",  # OCSPSigning
    "1.3.6.1.4.1.311.76.59.1.9",  # Microsoft's
    "1.3.6.1.4.1.62558.2.1",  # c2pa-kp-claimSigning
)
"""What certificates may be for: the library's default, which it leaves out where it does not look for trust."""

SETTINGS = {
    "verify": {
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
        "verify_trust": False,  # whom to trust is the reader's choice
        "verify_timestamp_trust": False,
        "verify_after_sign": True,
    },
    "core": {"allowed_network_hosts": [], "decode_identity_assertions": False},
    "builder": {"thumbnail": {"enabled": False}, "created_assertion_labels": ["c2pa.actions", "c2pa.ingredient"]},
    "trust": {"trust_config": "\n".join(PURPOSES)},
}

UPLOAD = "upload"
PLACE = re.compile(
    r'"(?:[^"]*(?:gps|location|latitude|longitude)[^"]*|(?:\w+:)?(?:city|state|country))"\s*:', re.IGNORECASE
)
"""A name in a manifest's JSON that is one of a place."""


def sign_in_child(
    buffers: Sequence[memoryview], arguments: Mapping[str, Any]
) -> tuple[ManifestAction, Sequence[memoryview]]:
    """What a child does. The buffers: chain, key, the result's file, and the upload's if that has a manifest.

    Returns what became of that, and the signed file. ``arguments``: those of ``signing.Statement``, and ``trial``.
    Raises BadCredentials in a trial, C2paError else.
    """
    chain, key, result, *uploads = map(bytes, buffers)
    info = c2pa.C2paSignerInfo(arguments["algorithm"].encode(), chain, key, None)
    with _no_descriptors(), c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context:
        try:
            action, signed = _signed(context, info, result, uploads[0] if uploads else None, arguments)
        except c2pa.C2paError as error:
            if arguments["trial"]:
                raise BadCredentials(str(error).splitlines()[0]) from None
            raise
    return action, [signed]


@contextlib.contextmanager
def _no_descriptors() -> Iterator[None]:
    """Meanwhile no socket and no file can be opened."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))


def _signed(
    context: c2pa.Context, info: c2pa.C2paSignerInfo, result: bytes, upload: bytes | None, said: Mapping[str, Any]
) -> tuple[ManifestAction, memoryview]:
    """With the upload's manifest, or without it where that cannot be read, says too much, or takes too much room."""
    action: ManifestAction = "none"
    if upload is not None:
        action = _judged(context, upload, said)
    if upload is not None and action in ("kept", "invalid"):
        try:
            signed, manifest = _built(context, info, result, upload, said)
        except c2pa.C2paError:
            action = "unreadable"
        else:
            if len(manifest) <= manifest_room(manifest_bytes(upload)):
                return action, signed
            action = "too_large"
    return action, _built(context, info, result, None, said)[0]


def _judged(context: c2pa.Context, upload: bytes, said: Mapping[str, Any]) -> ManifestAction:
    """Whether the upload's manifest holds, and may be carried."""
    try:
        with c2pa.Reader(said["upload_type"], io.BytesIO(upload), context=context) as reader:
            state, described = reader.get_validation_state(), reader.detailed_json()
    except c2pa.C2paError:
        return "unreadable"
    if not said["places"] and PLACE.search(described):
        return "dropped"
    return "invalid" if state == "Invalid" else "kept"


def _built(
    context: c2pa.Context,
    info: c2pa.C2paSignerInfo,
    result: bytes,
    upload: bytes | None,
    said: Mapping[str, Any],
) -> tuple[memoryview, bytes]:
    """The signed file, and the manifests in it."""
    parent = {"title": UPLOAD, "format": said["upload_type"], "relationship": "parentOf", "label": UPLOAD}
    definition = {
        "claim_generator_info": [said["generator"]],
        "format": said["result_type"],
        "ingredients": [] if upload is not None else [parent],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": said["actions"]}}],
    }
    file = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(definition, context) as builder:
        if upload is not None:
            builder.add_ingredient(parent, said["upload_type"], io.BytesIO(upload))
        manifest = builder.sign(signer, said["result_type"], io.BytesIO(result), file)
    return file.getbuffer(), manifest
