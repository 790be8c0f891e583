"""The operator's key and certificates, with which results are signed (C2PA specification 2.4, "Trust Model")."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.errors import BadCredentials

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
    from cryptography.x509 import Certificate

    from worker.settings import WorkerSettings

CERTIFICATES, KEY = "INFILL_C2PA_CERTIFICATES", "INFILL_C2PA_KEY"

MAX_CHAIN_BYTES = 16 * 1024
"""Every result carries the chain."""
ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
"""Of C2PA ("Signature Algorithms"), by the key's curve."""
RSA_BITS = 2048
ALLOWED = "an elliptic curve (P-256, P-384 or P-521), Ed25519, or RSA of 2,048 bits or more"


@dataclass(frozen=True)
class Credentials:
    """``chain``: PEM, the signer's certificate first. ``key``: PEM, PKCS #8. ``until``: it expires then, in UTC."""

    algorithm: str
    chain: bytes
    key: bytes = field(repr=False)
    until: datetime

    @property
    def expired(self) -> bool:
        return datetime.now(UTC) > self.until


def credentials_of(settings: "WorkerSettings") -> Credentials | None:
    """What the settings name; None where they name nothing. Raises BadCredentials, whose text is for the operator."""
    if settings.c2pa_certificates is None or settings.c2pa_key is None:
        return None
    if not all(map(find_spec, ("c2pa", "cryptography"))):
        raise BadCredentials(f"{CERTIFICATES}: results are signed by c2pa-python; install it: infill[c2pa].")
    chain = _read(CERTIFICATES, settings.c2pa_certificates)
    return checked(chain, _read(KEY, settings.c2pa_key.get_secret_value()))


def checked(chain: bytes, key: bytes) -> Credentials:
    """Raises BadCredentials where they cannot be read or do not fit; C2PA's other rules: ``Signers.check``."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    certificates, private = _certificates(chain), _private(key)
    described = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*described) != certificates[0].public_key().public_bytes(*described):
        raise BadCredentials(f"{KEY}: it is not the key of the first certificate in {CERTIFICATES}.")
    now = datetime.now(UTC)
    for certificate in certificates:
        if now > certificate.not_valid_after_utc:
            raise BadCredentials(f"{CERTIFICATES}: a certificate expired at {certificate.not_valid_after_utc}.")
        if now < certificate.not_valid_before_utc:
            raise BadCredentials(
                f"{CERTIFICATES}: a certificate is not valid before {certificate.not_valid_before_utc}."
            )
    return Credentials(
        _algorithm(private),
        b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates),
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        min(certificate.not_valid_after_utc for certificate in certificates),
    )


def _read(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path"
        raise BadCredentials(f"{variable}: the file cannot be read ({reason}). Name a PEM file.") from None


def _certificates(chain: bytes) -> "Sequence[Certificate]":
    """In their order; each but the last is issued by the next."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509 import load_pem_x509_certificates

    if len(chain) > MAX_CHAIN_BYTES:
        raise BadCredentials(
            f"{CERTIFICATES}: the file has more than {MAX_CHAIN_BYTES} bytes. Leave text and roots out."
        )
    try:
        found = load_pem_x509_certificates(chain)
    except ValueError:
        raise BadCredentials(f"{CERTIFICATES}: the file has no certificates in PEM, or damaged ones.") from None
    for issued, issuer in pairwise(found):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise BadCredentials(
                f"{CERTIFICATES}: the certificates are no chain. The signer's own comes first, then each one's issuer."
            ) from None
    return found


def _private(key: bytes) -> "PrivateKeyTypes":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(key, password=None)
    except TypeError:
        raise BadCredentials(f"{KEY}: the key is encrypted. Give the worker one without a passphrase.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadCredentials(f"{KEY}: the file has no private key in PEM, or a damaged one.") from None


def _algorithm(private: "PrivateKeyTypes") -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    found = None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        found = ALGORITHMS.get(private.curve.name)
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        found = "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey) and private.key_size >= RSA_BITS:
        found = "ps256"
    if found is None:
        raise BadCredentials(f"{KEY}: C2PA does not sign with a key of this kind. Use {ALLOWED}.")
    return found
