"""Certificates and keys: what can be served and what cannot, in words."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.config.certificate import check_pair, validity

NOW = datetime(2026, 1, 25, 10, tzinfo=UTC)


def make(folder: Path, begin: datetime, end: datetime, passphrase: bytes | None = None, name: str = "one") -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock))
    return cert_file, key_file


DAY = timedelta(days=1)


def wrong(cert: Path, key: Path) -> list[tuple[str, str]]:
    return check_pair(str(cert), str(key), NOW)


def test_a_good_pair(tmp_path: Path) -> None:
    assert wrong(*make(tmp_path, NOW - DAY, NOW + DAY)) == []


@pytest.mark.parametrize("end", [datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)])
def test_both_ways_to_write_a_time(tmp_path: Path, end: datetime) -> None:
    cert, _ = make(tmp_path, datetime(1999, 5, 6, 7, 8, 9, tzinfo=UTC), end)
    der = ssl.PEM_cert_to_DER_cert(cert.read_text())
    assert validity(der) == (datetime(1999, 5, 6, 7, 8, 9, tzinfo=UTC), end)


def test_expired_and_not_yet_valid(tmp_path: Path) -> None:
    assert wrong(*make(tmp_path, NOW - 2 * DAY, NOW - DAY)) == [
        ("cert", f"the certificate in {tmp_path}/one.pem expired on 2026-01-24 10:00 UTC")
    ]
    assert wrong(*make(tmp_path, NOW + DAY, NOW + 2 * DAY)) == [
        ("cert", f"the certificate in {tmp_path}/one.pem is not valid before 2026-01-26 10:00 UTC")
    ]


def test_a_passphrase(tmp_path: Path) -> None:
    [(name, sentence)] = wrong(*make(tmp_path, NOW - DAY, NOW + DAY, b"s3cret"))
    assert name == "key"
    assert "has a passphrase" in sentence


def test_a_key_of_another_certificate(tmp_path: Path) -> None:
    cert, _ = make(tmp_path, NOW - DAY, NOW + DAY)
    _, key = make(tmp_path, NOW - DAY, NOW + DAY, name="other")
    assert wrong(cert, key) == [("key", f"{key} does not belong to the certificate in {cert}")]


def test_both_files_are_judged(tmp_path: Path) -> None:
    found = wrong(tmp_path / "none.pem", tmp_path)
    assert [name for name, _ in found] == ["cert", "key"]
    assert found[0][1].endswith("cannot be read: No such file or directory")
    assert found[1][1].endswith("cannot be read: Is a directory")


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    cert, key = make(tmp_path, NOW - DAY, NOW + DAY)
    assert wrong(key, cert) == [
        ("cert", f"{key} holds no certificate in PEM form"),
        ("key", f"{cert} holds no private key in PEM form"),
    ]
    der = tmp_path / "der"
    der.write_bytes(ssl.PEM_cert_to_DER_cert(cert.read_text()))
    assert wrong(der, key)[0][1].endswith("is not a PEM file (DER must be converted)")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert wrong(broken, key) == [("cert", f"{broken} holds a certificate that cannot be read")]
    key.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert "cannot be used" in wrong(cert, key)[0][1]


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_a_certificate_that_was_cut_is_refused_not_a_crash(tmp_path: Path, length: int) -> None:
    cert, _ = make(tmp_path, NOW - DAY, NOW + DAY)
    with pytest.raises((ValueError, IndexError)):
        validity(ssl.PEM_cert_to_DER_cert(cert.read_text())[:length])
