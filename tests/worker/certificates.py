"""Certificates of an authority of the tests' own, as C2PA wants those of signers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

EMAIL = ExtendedKeyUsageOID.EMAIL_PROTECTION
CLAIM_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1")


def named(name: str) -> x509.Name:
    pairs = [(NameOID.ORGANIZATION_NAME, "Infill's tests"), (NameOID.COMMON_NAME, name)]
    return x509.Name([x509.NameAttribute(*pair) for pair in pairs])


@dataclass(frozen=True)
class Authority:
    """A root that issues certificates."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    name: str = "root"

    def certificate(
        self,
        key: Key,
        name: str = "signer",
        purpose: x509.ObjectIdentifier | None = EMAIL,
        is_authority: bool = False,
        days: tuple[int, int] = (-1, 90),
        comment: str = "",
    ) -> x509.Certificate:
        """``days``: from today, until when it is valid. ``comment``: makes it longer."""
        now = datetime.now(UTC)
        usage = x509.KeyUsage(not is_authority, False, False, False, False, is_authority, is_authority, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if purpose:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if comment:
            names = x509.SubjectAlternativeName([x509.DNSName(comment)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, SHA256())

    @property
    def root(self) -> x509.Certificate:
        return self.certificate(self.key, self.name, None, is_authority=True, days=(-2, 900))


ROOT = Authority()


def pem_of(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def chain_of(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


@cache
def key_of(kind: str) -> Key:
    """One for the whole run."""
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65_537, int(kind.removeprefix("rsa")))
    curves: dict[str, type[ec.EllipticCurve]] = {
        "p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1, "k256": ec.SECP256K1,
    }  # fmt: skip
    return ec.generate_private_key(curves[kind]())


def written(folder: Path, chain: bytes, key: bytes) -> dict[str, str]:
    """The settings that name both, by their variables."""
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    return {"INFILL_C2PA_CERTIFICATES": str(folder / "chain.pem"), "INFILL_C2PA_KEY": str(folder / "key.pem")}


def usual() -> tuple[bytes, bytes]:
    """A chain, and its key."""
    key = key_of("p256")
    return chain_of([ROOT.certificate(key), ROOT.root]), pem_of(key)
