"""C2PA manifests (specification 2.4): what a result's says, and how it is signed and bound to the file, in a child.

c2pa-python parses the manifests of strangers. It is run in a child (``signing.py``), with its network switched off, and
with no descriptor left to open: neither a socket nor a file.
"""

import contextlib
import io
import json
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
PLACE = re.compile(r"gps|location|latitude|longitude|(?:^|:)(?:city|state|country\w*)$", re.IGNORECASE)
"""In the names of an assertion's fields: it says where something was."""
THUMBNAIL = "c2pa.thumbnail"
"""Of the photo before it was edited."""
KEPT = ("c2pa.actions", "c2pa.hash", "c2pa.ingredient")
"""What may not be left out of a manifest that is carried ("Redaction of Assertions"), and what others hang on."""
REDACTED = {"action": "c2pa.redacted", "reason": "c2pa.PII.present"}


def sign_in_child(
    buffers: Sequence[memoryview], arguments: Mapping[str, Any]
) -> tuple[ManifestAction, Sequence[memoryview]]:
    """What a child does. The buffers: chain, key, the result's file, and the upload's if that has a manifest.

    Returns what became of that, and the signed file. ``arguments``: those of ``signing.Statement``, ``algorithm`` and
    ``trial``. Raises BadCredentials in a trial, C2paError else.
    """
    chain, key, result, *uploads = map(bytes, buffers)
    info = c2pa.C2paSignerInfo(arguments["algorithm"].encode(), chain, key, None)
    with _no_descriptors(), c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context:
        signing = Signing(context, info, arguments)
        try:
            action, signed = signing.with_manifest_of(uploads[0], result) if uploads else signing.alone(result)
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


@dataclass(frozen=True)
class Signing:
    """``said``: the arguments of ``sign_in_child``."""

    context: c2pa.Context
    info: c2pa.C2paSignerInfo
    said: Mapping[str, Any]

    def alone(self, result: bytes, action: ManifestAction = "none") -> tuple[ManifestAction, memoryview]:
        """Without a manifest of the upload's."""
        return action, self._built(result, None, ())[0]

    def with_manifest_of(self, upload: bytes, result: bytes) -> tuple[ManifestAction, memoryview]:
        """With the upload's, or without it where that cannot be read, says too much, or takes too much room."""
        try:
            action, redacted = self._judged(upload)
            if action == "dropped":
                return self.alone(result, action)
            signed, manifest = self._built(result, upload, redacted)
        except c2pa.C2paError:
            return self.alone(result, "unreadable")
        if len(manifest) > manifest_room(manifest_bytes(upload)):
            return self.alone(result, "too_large")
        return action, signed

    def _judged(self, upload: bytes) -> tuple[ManifestAction, Sequence[str]]:
        """Whether the upload's manifest holds and may be carried, and the addresses of the assertions to leave out."""
        with c2pa.Reader(self.said["upload_type"], io.BytesIO(upload), context=self.context) as reader:
            state, described = reader.get_validation_state(), json.loads(reader.detailed_json())
        redacted = []
        for name, manifest in described["manifests"].items():
            for label, content in manifest["assertion_store"].items():
                if not (label.startswith(THUMBNAIL) or (not self.said["places"] and _names_place(content))):
                    continue
                if label.startswith(KEPT):
                    return "dropped", ()
                redacted.append(f"self#jumbf=/c2pa/{name}/c2pa.assertions/{label}")
        return "invalid" if state == "Invalid" else "kept", redacted

    def _built(self, result: bytes, upload: bytes | None, redacted: Sequence[str]) -> tuple[memoryview, bytes]:
        """The signed file, and the manifests in it."""
        redactions = [REDACTED | {"parameters": {"redacted": address}} for address in redacted]
        media_type = self.said["upload_type"]
        parent = {"title": UPLOAD, "format": media_type, "relationship": "parentOf", "label": UPLOAD}
        definition = {
            "claim_generator_info": [self.said["generator"]],
            "ingredients": [] if upload is not None else [parent],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": self.said["actions"] + redactions}}],
            "redactions": list(redacted),
        }
        file = io.BytesIO()
        with c2pa.Signer.from_info(self.info) as signer, c2pa.Builder(definition, self.context) as builder:
            if upload is not None:
                builder.add_ingredient(parent, media_type, io.BytesIO(upload))
            manifest = builder.sign(signer, self.said["result_type"], io.BytesIO(result), file)
        return file.getbuffer(), manifest


def _names_place(content: object) -> bool:
    """Whether a field's name, at any depth, is one of a place."""
    if isinstance(content, dict):
        return any(map(PLACE.search, content)) or any(map(_names_place, content.values()))
    return isinstance(content, list) and any(map(_names_place, content))
