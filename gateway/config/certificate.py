"""Whether the two TLS files can be served: found out before the port opens, and said in words."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def check_pair(cert: str, key: str, now: datetime) -> list[tuple[str, str]]:
    """Return what is wrong with a certificate chain and its private key, as (`cert` or `key`, sentence)."""
    wrong: list[tuple[str, str]] = []
    chain = _read("cert", cert, wrong)
    private = _read("key", key, wrong)
    if chain is not None:
        wrong += [("cert", sentence) for sentence in _check_chain(cert, chain, now)]
    if private is not None and "PRIVATE KEY-----" not in private:
        wrong.append(("key", f"{key} holds no private key in PEM form"))
    return wrong or _check_match(cert, key)


def _read(name: str, path: str, wrong: list[tuple[str, str]]) -> str | None:
    try:
        return Path(path).read_text("ascii")
    except UnicodeDecodeError:
        wrong.append((name, f"{path} is not a PEM file (DER must be converted)"))
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        wrong.append((name, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"))
    return None


def _check_chain(path: str, chain: str, now: datetime) -> list[str]:
    first = _PEM.search(chain)
    if first is None:
        return [f"{path} holds no certificate in PEM form"]
    try:
        begin, end = validity(ssl.PEM_cert_to_DER_cert(first[0]))
    except (ValueError, IndexError):
        return [f"{path} holds a certificate that cannot be read"]
    if now > end:
        return [f"the certificate in {path} expired on {end:%Y-%m-%d %H:%M} UTC"]
    if now < begin:
        return [f"the certificate in {path} is not valid before {begin:%Y-%m-%d %H:%M} UTC"]
    return []


def _check_match(cert: str, key: str) -> list[tuple[str, str]]:
    asked = False

    def password() -> str:
        nonlocal asked
        asked = True
        return ""

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password)
    except ssl.SSLError as error:
        if asked:
            return [("key", f"{key} has a passphrase, which nobody is there to type: store the key without one")]
        if error.reason == "KEY_VALUES_MISMATCH":
            return [("key", f"{key} does not belong to the certificate in {cert}")]
        return [("key", f"{key} and {cert} cannot be used: {error.reason or error}")]
    except (OSError, ValueError) as error:
        return [("key", f"{key} and {cert} cannot be used: {error}")]
    return []


def expiry(cert: str) -> datetime:
    """Return until when a certificate chain is valid that `check_pair` found nothing wrong with: its first certificate is.

    Raises OSError or ValueError if it has been changed meanwhile.
    """
    first = _PEM.search(Path(cert).read_text("ascii"))
    if first is None:
        raise ValueError(f"{cert} holds no certificate in PEM form")
    return validity(ssl.PEM_cert_to_DER_cert(first[0]))[1]


def validity(der: bytes) -> tuple[datetime, datetime]:
    """Return from when to when a certificate is valid (RFC 5280, section 4.1).

    The standard library tells this only of the peer of a connection. Raises ValueError or IndexError if `der` is not one.
    """
    body = _value(der, 0, 0x30)
    at = _value(der, body[0], 0x30)[0]
    if der[at] == 0xA0:  # the version, which the oldest form does not have
        at = _value(der, at, 0xA0)[1]
    for tag in (0x02, 0x30, 0x30):  # serial number, signature algorithm, issuer
        at = _value(der, at, tag)[1]
    at, _ = _value(der, at, 0x30)
    begin, at = _time(der, at)
    end, _ = _time(der, at)
    return begin, end


def _value(der: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the value of the element at `at` begins and ends."""
    if der[at] != tag:
        raise ValueError(f"tag {der[at]:#x} where {tag:#x} belongs")
    length, start = der[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[at + 2 : start])
    return start, start + length


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    """UTCTime has two digits for the year, and 50 and above mean 19xx; GeneralizedTime has four."""
    start, end = _value(der, at, der[at] if der[at] in (0x17, 0x18) else 0x17)
    digits = der[start:end].decode("ascii")
    if der[at] == 0x17:
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), end
