"""Which addresses a webhook may be sent to.

Whoever may set an endpoint's URL, or answers for its name, must not get at the credentials that clouds hand out to any
process on the machine. Judged is the address a connection is about to be made to, however it came out of the URL.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

#: instance metadata outside the link-local networks: AWS over IPv6, Alibaba, Oracle (classic), Azure
_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")))

#: the well-known prefix of translators between IPv6 and IPv4 (RFC 6052, section 2.1): the last four bytes are an IPv4 address
_NAT64 = IPv6Network("64:ff9b::/96")


def refusal(address: str, *, private_allowed: bool = True) -> str | None:
    """Return why nothing may be sent to the address (a literal, without brackets), or None if it may.

    Raises ValueError if it is not an address.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        ip = _embedded(ip)
    if ip in _METADATA:
        return "a metadata service"
    if ip.is_link_local:
        return "link-local"
    if ip.is_unspecified or (isinstance(ip, IPv4Address) and ip.packed[0] == 0):
        return "unspecified"
    if ip.is_multicast or ip == IPv4Address("255.255.255.255"):
        return "not one machine"
    if not private_allowed and not ip.is_global:
        return "private"
    return None


def _embedded(ip: IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that packets to this one reach, if it only wraps one."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip in _NAT64:
        return IPv4Address(ip.packed[12:])
    return ip
