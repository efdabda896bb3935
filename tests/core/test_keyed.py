"""HMAC with kept keys: the same as the library's, whatever the key and however the message is cut."""

from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.keyed import Keyed, keyed


@given(st.binary(max_size=200), st.binary(max_size=300), st.integers(0, 300))
def test_it_is_hmac(key: bytes, message: bytes, cut: int) -> None:
    digest = hmac.digest(key, message, "sha256").hex()
    assert Keyed(key, message[:cut]).sign(message[cut:]) == digest
    assert keyed(key).sign(message) == digest
    assert keyed(key).digest(message[:cut], message[cut:]).hex() == digest


def test_what_is_kept_is_not_used_up() -> None:
    one = Keyed(b"k" * 64, b"a")
    assert one.sign(b"b") == one.sign(b"b") == hmac.digest(b"k" * 64, b"ab", "sha256").hex()
    assert one.sign(b"c") != one.sign(b"b")
    assert keyed(b"k") is keyed(b"k")
