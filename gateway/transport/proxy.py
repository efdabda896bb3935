"""The pure reading of a PROXY protocol header, versions 1 and 2: what a proxy says of the connection it passes on.

The header comes before everything else on the line, TLS included (PROXY protocol, section 2).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

#: Longest header that is read, in bytes: version 2 allows 64 KB of further facts, of which proxies send a few hundred bytes.
LONGEST = 4096

#: Longest line of version 1 (section 2.1), its end included.
_LONGEST_LINE = 107
_LINE_BEGINS = b"PROXY "
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [!-~ ]*)?|(TCP[46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n")

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
#: signature; version and command; family and transport; length of what follows (section 2.2)
_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_UNKNOWN, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
#: what the addresses take, by family and transport
_ADDRESSES = {_UNKNOWN: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


class MalformedHeader(Exception):
    """These bytes are not, and cannot become, a header; the message says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header: its size in bytes, and the client's address; None where the proxy speaks for itself or cannot tell."""

    size: int
    client: str | None


def read_header(data: bytes) -> Header | None:
    """Return the header that `data` begins with, None if it is not whole yet: then all of `data` belongs to it.

    Raises MalformedHeader as soon as it cannot become one.
    """
    if _SIGNATURE.startswith(data[:12]):
        return None if len(data) < _HEAD.size else _version_2(data)
    if data.startswith(_LINE_BEGINS) or _LINE_BEGINS.startswith(data):
        return _version_1(data)
    raise MalformedHeader("there is no header of the PROXY protocol")


def _version_1(data: bytes) -> Header | None:
    end = data.find(b"\n", 0, _LONGEST_LINE) + 1
    if not end:
        if len(data) >= _LONGEST_LINE:
            raise MalformedHeader("the line of version 1 is too long")
        return None
    found = _LINE.fullmatch(data, 0, end)
    if found is None:
        raise MalformedHeader("the line of version 1 is malformed")
    family, source, destination, *ports = found.groups()
    if family is None:
        return Header(end, None)
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        client = kind(source.decode())
        kind(destination.decode())
    except ValueError:
        raise MalformedHeader("the line of version 1 has a malformed address") from None
    if any(int(port) > 65_535 for port in ports):
        raise MalformedHeader("the line of version 1 has a port beyond 65535")
    return Header(end, str(client))


def _version_2(data: bytes) -> Header | None:
    _, command, family, length = _HEAD.unpack_from(data)
    size = _HEAD.size + length
    if command not in (_LOCAL, _PROXY):
        raise MalformedHeader(f"version and command {command:#04x} are unknown")
    if size > LONGEST:
        raise MalformedHeader(f"a header of {size} bytes is too long")
    needed = 0
    if command == _PROXY:
        if family not in _ADDRESSES:
            raise MalformedHeader(f"family and transport {family:#04x} cannot be those of this connection")
        needed = _ADDRESSES[family]
    if length < needed:
        raise MalformedHeader("the addresses are cut short")
    if len(data) < size:
        return None
    # What stands behind the addresses are further facts (type, length, value), which nobody here asks for.
    start = _HEAD.size
    if command == _PROXY and family == _TCP4:
        return Header(size, str(IPv4Address(data[start : start + 4])))
    if command == _PROXY and family == _TCP6:
        return Header(size, str(IPv6Address(data[start : start + 16])))
    return Header(size, None)
