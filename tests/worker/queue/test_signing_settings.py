"""``INFILL_C2PA_CERTIFICATES`` and ``INFILL_C2PA_KEY``: at a worker's start, and in the files that it stores."""

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import c2pa
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from redis import Redis

from jobs.errors import BadCredentials, SigningFailed
from jobs.sandbox.errors import Limits
from tests.factories import noise, png
from tests.programs import program
from tests.worker.certificates import (
    CLAIM_SIGNING,
    ROOT,
    Authority,
    chain_of,
    key_of,
    pem_of,
    usual,
    written,
)
from tests.worker.office import Office, named
from worker.main import signers_of
from worker.pixels.credentials import Credentials, checked, credentials_of
from worker.pixels.signing import LIMITS, Signers
from worker.settings import WorkerSettings

ROOT_FOLDER = Path(__file__).parents[3]
KEY = key_of("p256")
OWN = ROOT.certificate(KEY)


def settings_of(folder: Path, chain: bytes, key: bytes) -> WorkerSettings:
    names = {name.removeprefix("INFILL_").lower(): path for name, path in written(folder, chain, key).items()}
    return WorkerSettings.model_validate(names)


def wrong(folder: Path, chain: bytes, key: bytes) -> str:
    """What a worker says of them at its start."""
    with pytest.raises(BadCredentials) as caught:
        signers_of(settings_of(folder, chain, key))
    assert pem_of(KEY).decode().splitlines()[1] not in str(caught.value)
    return str(caught.value)


def test_without_the_settings_nothing_is_signed() -> None:
    assert credentials_of(WorkerSettings()) is None


LOCKED = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
OTHER = Authority(name="other")
UNREADABLE: dict[str, tuple[bytes, bytes, str]] = {
    "no certificate": (b"", pem_of(KEY), "CERTIFICATES: the file has no certificates in PEM"),
    "damaged": (
        chain_of([OWN]).replace(b"M", b"N", 9),
        pem_of(KEY),
        "CERTIFICATES: the file has no certificates in PEM",
    ),
    "the key in its place": (pem_of(KEY), pem_of(KEY), "CERTIFICATES: the file has no certificates in PEM"),
    "no key": (chain_of([OWN]), chain_of([OWN]), "KEY: the file has no private key in PEM"),
    "locked": (chain_of([OWN]), LOCKED, "KEY: the key is encrypted"),
    "another's key": (chain_of([OWN]), pem_of(key_of("p384")), "KEY: it is not the key of the first certificate"),
    "the issuer first": (chain_of([ROOT.root, OWN]), pem_of(KEY), "CERTIFICATES: the certificates are no chain"),
    "another issuer": (chain_of([OWN, OTHER.root]), pem_of(KEY), "CERTIFICATES: the certificates are no chain"),
    "too long": (chain_of([OWN] * 40), pem_of(KEY), "CERTIFICATES: the file has more than 16384 bytes"),
    "expired": (
        chain_of([ROOT.certificate(KEY, days=(-9, -1))]),
        pem_of(KEY),
        "CERTIFICATES: a certificate expired at",
    ),
    "not yet": (chain_of([ROOT.certificate(KEY, days=(2, 9))]), pem_of(KEY), "a certificate is not valid before"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_does_not_fit_is_said_at_the_start(name: str, tmp_path: Path) -> None:
    chain, key, said = UNREADABLE[name]
    assert said in wrong(tmp_path, chain, key)


@pytest.mark.parametrize("kind", ["k256", "rsa1024"])
def test_a_key_that_c2pa_does_not_take_is_refused(kind: str, tmp_path: Path) -> None:
    key = key_of(kind)
    assert "KEY: C2PA does not sign with a key of this kind. Use" in wrong(
        tmp_path, chain_of([ROOT.certificate(key)]), pem_of(key)
    )


@pytest.mark.parametrize("changed", [{"purpose": None}, {"is_authority": True}])
def test_certificates_that_c2pa_does_not_allow_are_refused(changed: dict[str, bool], tmp_path: Path) -> None:
    chain = chain_of([ROOT.certificate(KEY, **changed)])  # type: ignore[arg-type]
    said = wrong(tmp_path, chain, pem_of(KEY))
    assert "CERTIFICATES: C2PA does not sign with these certificates: Signature: the certificate is invalid" in said


@pytest.mark.parametrize("name", ["missing.pem", "", ".", "a\0b", pem_of(KEY).decode()])
def test_a_file_that_cannot_be_read_is_named_by_its_variable_only(name: str, tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_bytes(chain_of([OWN]))
    settings = WorkerSettings.model_validate({"c2pa_certificates": str(tmp_path / "chain.pem"), "c2pa_key": name})
    with pytest.raises(BadCredentials, match=r"^INFILL_C2PA_KEY: the file cannot be read") as caught:
        credentials_of(settings)
    assert "PRIVATE" not in str(caught.value) + repr(settings)


def test_certificates_for_claim_signing_alone_sign(tmp_path: Path) -> None:
    signers = signers_of(settings_of(tmp_path, chain_of([ROOT.certificate(KEY, purpose=CLAIM_SIGNING)]), pem_of(KEY)))
    assert signers
    signers.close()


def test_a_worker_with_a_wrong_key_ends_with_one_sentence_before_torch_is_imported(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INFILL_")}
    command = [sys.executable, "-X", "importtime", "-m", "worker"]
    files = written(tmp_path, chain_of([OWN]), pem_of(key_of("p384")))
    done = subprocess.run(command, env=environment | files, capture_output=True, text=True, check=False, timeout=60)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    sentence = "INFILL_C2PA_KEY: it is not the key of the first certificate in INFILL_C2PA_CERTIFICATES."
    assert (done.returncode, said) == (1, [sentence])
    assert "| torch\n" not in done.stderr


def test_a_worker_warns_of_certificates_that_expire_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for days in (29, 31):
        chain = chain_of([ROOT.certificate(KEY, days=(-1, days))])
        signers = signers_of(settings_of(tmp_path, chain, pem_of(KEY)))
        assert signers
        signers.close()
    said = [record for record in caplog.records if "the certificates expire at" in record.message]
    assert [record.levelname for record in said] == ["WARNING", "INFO"]
    assert "PRIVATE" not in caplog.text


@pytest.fixture
def office(connection: Redis, tmp_path: Path) -> Callable[..., Office]:
    return lambda sign: Office(connection, tmp_path, named, sign=sign)


def test_what_is_stored_is_signed_and_its_length_is_that_of_the_signed_file(office: Callable[..., Office]) -> None:
    signers = Signers(checked(*usual()), 1)
    signing = office(signers)
    job_id = signing.submit("a", steps=1)
    signing.run()
    signers.close()
    result, report = signing.queue.store.result(job_id, 0), signing.report(job_id)
    assert result and report.images[0].size_bytes == len(result)
    assert json.loads(c2pa.Reader("image/png", io.BytesIO(result)).json())["validation_state"] == "Valid"


def test_a_job_whose_result_cannot_be_signed_fails_once_and_stores_nothing(office: Callable[..., Office]) -> None:
    limits = Limits(LIMITS.cpu_s, LIMITS.wall_s, LIMITS.memory_bytes, 4_000, LIMITS.output_bytes)
    signers = Signers(checked(*usual()), 1, limits)
    signing = office(signers)
    job_id = signing.submit("a", steps=1)
    signing.run()
    signers.close()
    assert signing.problem(job_id).code == "signing_failed"
    assert signing.queue.store.result(job_id, 0) is None
    assert signing.queue.job(job_id).number_of_retries in (0, None)


def test_nothing_is_signed_once_the_certificate_has_expired() -> None:
    fresh = checked(*usual())
    signers = Signers(Credentials(fresh.algorithm, fresh.chain, fresh.key, datetime.now(UTC) - timedelta(seconds=1)), 1)
    try:
        with pytest.raises(SigningFailed, match="has expired"):
            signers(png(noise((8, 8, 3))), b"", None)  # type: ignore[arg-type]
    finally:
        signers.close()


def test_the_first_certificate_to_expire_counts() -> None:
    soon, late = ROOT.certificate(KEY, days=(-1, 5)), ROOT.root
    assert checked(chain_of([soon, late]), pem_of(KEY)).until == soon.not_valid_after_utc


def test_the_key_that_the_documentation_makes_signs(tmp_path: Path) -> None:
    (commands,) = re.findall(r"```sh\n(openssl .*?)```", (ROOT_FOLDER / "docs/marking.md").read_text(), re.DOTALL)
    program("openssl")
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, capture_output=True)
    files = {"c2pa_certificates": str(tmp_path / "chain.pem"), "c2pa_key": str(tmp_path / "key.pem")}
    signers = signers_of(WorkerSettings.model_validate(files))
    assert signers
    signers.close()


def test_a_signature_that_does_not_hold_is_not_given_out() -> None:
    fresh, other = checked(*usual()), ec.generate_private_key(ec.SECP256R1())
    signers = Signers(Credentials(fresh.algorithm, fresh.chain, pem_of(other), fresh.until), 1)
    try:
        with pytest.raises(BadCredentials, match="does not match"):
            signers.check()
    finally:
        signers.close()


def test_credentials_do_not_show_their_key() -> None:
    assert "PRIVATE" not in repr(checked(*usual()))
