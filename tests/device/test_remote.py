"""Whose address a connection has, behind proxies that are trusted and others."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.transport.remote import is_secure, remote_ip

TRUSTED = [ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("trusted", [[], TRUSTED])
def test_the_peer_itself(peer: str, expected: str, trusted: list[object]) -> None:
    assert remote_ip(peer, None, trusted) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("peer", ["127.0.0.1", "198.51.100.7"])
def test_nobody_is_believed_when_nobody_is_trusted(peer: str) -> None:
    assert remote_ip(peer, b"203.0.113.9", []) == peer


@pytest.mark.parametrize("peer", ["198.51.100.7", "11.0.0.1", "2001:db8:2::1"])
def test_strangers_are_not_believed(peer: str) -> None:
    assert remote_ip(peer, b"203.0.113.9", TRUSTED) == peer


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"  203.0.113.9\t", "203.0.113.9"),
        (b"6.6.6.6, 203.0.113.9", "203.0.113.9"),  # the left one may be forged
        (b"6.6.6.6,203.0.113.9,10.1.2.3, 10.9.9.9", "203.0.113.9"),
        (b"203.0.113.9, 2001:db8:1::5", "203.0.113.9"),
        (b"203.0.113.9, , ,", "203.0.113.9"),
        (b"203.0.113.9:4711", "203.0.113.9"),
        (b"[2001:db8::7]:4711", "2001:db8::7"),
        (b"[2001:db8::7]", "2001:db8::7"),
        (b"2001:DB8::7", "2001:db8::7"),
        (b"::ffff:203.0.113.9", "203.0.113.9"),
        (b"10.0.0.1, 10.0.0.2", "10.0.0.1"),  # a client inside
        (b", ".join([b"6.6.6.6"] * 10_000 + [b"203.0.113.9"]), "203.0.113.9"),
        (b"unknown, 203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_right_most_that_is_not_trusted(header: bytes, expected: str) -> None:
    assert remote_ip("127.0.0.1", header, TRUSTED) == expected
    assert remote_ip("::ffff:127.0.0.1", header, TRUSTED) == expected


@pytest.mark.parametrize(
    "header",
    [b"", b" , ", b"unknown", b"_hidden", b"203.0.113", b"203.0.113.9, unknown", b"\xff\xfe", b"[", b"]:1", b"1.2.3.4.5:6"],
)
def test_garbage_falls_back_to_the_peer(header: bytes) -> None:
    assert remote_ip("127.0.0.1", header, TRUSTED) == "127.0.0.1"


def test_a_peer_that_has_gone() -> None:
    assert remote_ip("", b"203.0.113.9", TRUSTED) == ""


@pytest.mark.parametrize(
    ("peer", "has_tls", "proto", "expected"),
    [
        ("127.0.0.1", False, None, False),
        ("127.0.0.1", True, None, True),
        ("127.0.0.1", False, b"https", True),
        ("127.0.0.1", False, b"http, HTTPS ", True),
        ("127.0.0.1", False, b"https, http", False),
        # The proxy speaks TLS to us, its client did not speak TLS to the proxy.
        ("127.0.0.1", True, b"http", False),
        ("198.51.100.7", False, b"https", False),
        ("198.51.100.7", True, b"http", True),
        ("", False, b"https", False),
    ],
)
def test_only_a_trusted_proxy_says_how_its_client_came(peer: str, has_tls: bool, proto: bytes | None, expected: bool) -> None:
    assert is_secure(peer, has_tls, proto, TRUSTED) is expected  # type: ignore[arg-type]
    assert is_secure(peer, has_tls, proto, []) is has_tls
