"""Whose address a connection has: the peer's, or what a trusted proxy says of it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
_Address = IPv4Address | IPv6Address

#: The peer of a Unix socket: whoever the file's permissions let in, so a proxy of this machine, and trusted.
UNIX = "unix"


def remote_ip(peer: str, forwarded_for: bytes | None, trusted: Sequence[Network]) -> str:
    """Return the client's address.

    `peer` is the other end of the socket (may be empty if it has gone already), `forwarded_for` all `X-Forwarded-For`
    lines joined by commas. The header counts only if the peer is a trusted proxy: then the right-most entry that is not
    itself one. Everything to the left of it may be forged. An entry that is no address ends the search: the peer it is.
    """
    if not trusted and peer != UNIX:
        # The usual case pays for no parsing.
        return peer.removeprefix("::ffff:").partition("%")[0] if ":" in peer else peer
    near = _parse(peer)
    nearest = peer if near is None else str(near)
    if not forwarded_for or not is_trusted_peer(peer, trusted):
        return nearest
    far = nearest
    for entry in reversed(forwarded_for.split(b",")):
        entry = entry.strip(b" \t")
        if not entry:
            continue
        address = _parse(_without_port(entry.decode("latin-1")))
        if address is None:
            return nearest
        far = str(address)
        if not _is_trusted(address, trusted):
            break
    return far


def is_secure(peer: str, has_tls: bool, forwarded_proto: bytes | None, trusted: Sequence[Network]) -> bool:
    """Tell whether the client's own line is TLS.

    `has_tls`: the socket's is. `forwarded_proto` (`X-Forwarded-Proto`) counts only if the peer is a trusted proxy; of several
    values the last is the word of the nearest one.
    """
    if not forwarded_proto or not is_trusted_peer(peer, trusted):
        return has_tls
    return forwarded_proto.rpartition(b",")[2].strip(b" \t").lower() == b"https"


def is_trusted_peer(peer: str, trusted: Sequence[Network]) -> bool:
    """Tell whether the other end of a socket is a proxy whose word about its client counts."""
    if peer == UNIX:
        return True
    near = _parse(peer) if trusted else None
    return near is not None and _is_trusted(near, trusted)


def _is_trusted(address: _Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _without_port(entry: str) -> str:
    """Return the address of `192.0.2.1:80`, `[2001:db8::1]:80`, `[2001:db8::1]` or a bare address."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry


def _parse(text: str) -> _Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
