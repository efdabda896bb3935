"""The PROXY protocol's header, versions 1 and 2: read however it is cut, and never a byte more."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.proxy import LONGEST, Header, MalformedHeader, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def line(source: str, destination: str = "192.0.2.1", family: str = "TCP4", ports: str = "56324 443") -> bytes:
    return f"PROXY {family} {source} {destination} {ports}\r\n".encode()


def block(command: int, family: int, payload: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload) if length is None else length) + payload


def addresses(source: str, destination: str) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed + struct.pack("!HH", 56324, 443)


FOUR, SIX = addresses("203.0.113.9", "192.0.2.1"), addresses("2001:db8::9", "2001:db8::1")
TLV = b"\x04\0\x03abc" + b"\x20\0\x05\x01\0\0\0\0"

WHOLE = [
    (line("203.0.113.9"), "203.0.113.9"),
    (line("255.255.255.255", "255.255.255.255", ports="65535 65535"), "255.255.255.255"),
    (line("2001:db8::9", "2001:db8::1", "TCP6"), "2001:db8::9"),
    (line("2001:0DB8:0000:0000:0000:0000:0000:0009", "::1", "TCP6"), "2001:db8::9"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (block(0x21, 0x11, FOUR), "203.0.113.9"),
    (block(0x21, 0x11, FOUR + TLV), "203.0.113.9"),
    (block(0x21, 0x21, SIX), "2001:db8::9"),
    (block(0x21, 0x21, SIX + TLV * 20), "2001:db8::9"),
    (block(0x21, 0x31, b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")), None),
    (block(0x21, 0x00, b""), None),
    (block(0x21, 0x00, TLV), None),
    (block(0x20, 0x00, b""), None),
    (block(0x20, 0x11, FOUR), None),  # LOCAL: the proxy's own health check, whatever the addresses say
    (block(0x20, 0x12, b"x"), None),
    (block(0x21, 0x11, FOUR + b"\0" * (LONGEST - 28)), "203.0.113.9"),
]


@pytest.mark.parametrize(("header", "client"), WHOLE)
def test_headers_in_any_pieces(header: bytes, client: str | None) -> None:
    for rest in (b"", b"\x16\x03\x01\x02\0", b"GET / HTTP/1.1\r\n", header):
        assert read_header(header + rest) == Header(len(header), client)
    for end in range(len(header)):
        assert read_header(header[:end]) is None


MALFORMED = {
    "no header": b"GET /app/key HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\0\x01",
    "lower case": b"proxy TCP4",
    "no family": b"PROXY \r\n",
    "an unknown family": b"PROXY UDP4 203.0.113.9 192.0.2.1 1 2\r\n",
    "two spaces": b"PROXY TCP4  203.0.113.9 192.0.2.1 1 2\r\n",
    "no carriage return": b"PROXY TCP4 203.0.113.9 192.0.2.1 1 2\n",
    "a port too few": line("203.0.113.9", ports="1"),
    "a port too many": line("203.0.113.9", ports="1 2 3"),
    "a port beyond": line("203.0.113.9", ports="1 65536"),
    "a negative port": line("203.0.113.9", ports="1 -2"),
    "no address": line("example.com"),
    "half an address": line("203.0.113"),
    "an address of the other family": line("2001:db8::9"),
    "a destination of the other family": line("2001:db8::9", family="TCP6"),
    "a leading zero": line("203.0.113.09"),
    "a zone": line("fe80::1%eth0", "::1", "TCP6"),
    "too long": b"PROXY UNKNOWN " + b"x" * 93,
    "too long with an end": b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n",
    "not ASCII": b"PROXY UNKNOWN \xff\r\n",
    "version 3": block(0x31, 0x11, FOUR),
    "an unknown command": block(0x22, 0x11, FOUR),
    "datagrams": block(0x21, 0x12, FOUR),
    "an unknown address family": block(0x21, 0x41, FOUR),
    "too short for IPv4": block(0x21, 0x11, FOUR[:-1]),
    "too short for IPv6": block(0x21, 0x21, FOUR),
    "too short for Unix": block(0x21, 0x31, b"/run/client"),
    "longer than is read": block(0x21, 0x11, b"", length=LONGEST - 15),
    "as long as can be said": block(0x20, 0x00, b"", length=65_535),
    "a broken signature": SIGNATURE[:-1] + b"\r" + b"\x21\x11\0\x0c" + FOUR,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_headers(data: bytes) -> None:
    with pytest.raises(MalformedHeader):
        read_header(data)


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 65_535), st.binary(max_size=300), st.binary(max_size=50))
def test_any_address_in_both_versions(client: IPv4Address | IPv6Address, port: int, facts: bytes, rest: bytes) -> None:
    is_four = client.version == 4
    other = "192.0.2.1" if is_four else "2001:db8::1"
    first = line(str(client), other, "TCP4" if is_four else "TCP6", f"{port} 443")
    second = block(0x21, 0x11 if is_four else 0x21, addresses(str(client), other) + facts)
    for header in (first, second):
        assert read_header(header + rest) == Header(len(header), str(client))


@given(
    st.binary(max_size=300)
    | st.sampled_from([SIGNATURE, b"PROXY ", b"PROXY TCP4 "]).flatmap(
        lambda beginning: st.binary(max_size=100).map(lambda more: beginning + more)
    )
)
def test_no_bytes_at_all_break_the_reading(data: bytes) -> None:
    try:
        header = read_header(data)
    except MalformedHeader:
        # What is malformed stays so, whatever follows.
        with pytest.raises(MalformedHeader):
            read_header(data + b"\r\n" * 10)
    else:
        assert header is None or header.size <= len(data)
