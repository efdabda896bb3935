"""Which addresses a webhook may be sent to.

Whoever may set an endpoint's URL, or answers for its name, must not get at the credentials that clouds hand out to any
process on the machine, nor at what the operator has fenced off. Judged is the address a connection is about to be made
to, however it came out of the URL.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: What hands out credentials outside the link-local networks: over IPv6 AWS (instances, then the pods of EKS) and Google;
#: Alibaba, Oracle (classic), Azure.
_METADATA = frozenset(
    map(ip_address, ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)

#: Translators between IPv6 and IPv4: the last four bytes are an IPv4 address. The well-known prefix (RFC 6052, section 2.1),
#: those for local use, as far as they are as long as it (RFC 8215), and the stateless form (RFC 2765, section 2.1).
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::ffff:0:0:0/96"))

#: addresses that only spell an IPv4 one (RFC 4291, sections 2.5.5.1 and 2.5.5.2); the first of these is deprecated
_COMPATIBLE = IPv6Network("::/96")
_MAPPED = IPv6Network("::ffff:0:0/96")

#: `::` and `::1` look like the above and are addresses of their own
_OWN = frozenset((IPv6Address("::"), IPv6Address("::1")))


class AddressRules:
    """What may be sent to: `allow` comes before `refuse`, and that before what is refused without being asked for.

    `refuse` and `allow` are networks in CIDR notation; raises ValueError if one of them is none.
    """

    __slots__ = ("_allow", "_private_allowed", "_refuse")

    def __init__(self, *, refuse: Iterable[str] = (), allow: Iterable[str] = (), private_allowed: bool = True) -> None:
        self._refuse = tuple(map(_network, refuse))
        self._allow = tuple(map(_network, allow))
        self._private_allowed = private_allowed

    def refusal(self, address: str) -> str | None:
        """Return why nothing may be sent to the address (a literal, without brackets), or None if it may.

        An IPv6 address that stands for an IPv4 one is judged as that. Raises ValueError if it is not an address.
        """
        given = ip_address(address)
        ip = _meant(given)
        if any(ip in network for network in self._allow):
            return None
        # The form that was given counts as well here, so that a whole range of translated addresses can be fenced off.
        if any(ip in network or given in network for network in self._refuse):
            return "in a network that is refused"
        return _refused_by_default(ip) or ("private" if not self._private_allowed and _is_private(ip) else None)


def _refused_by_default(ip: Address) -> str | None:
    if ip in _METADATA:
        return "a metadata service"
    if ip.is_link_local:
        return "link-local"
    if ip.is_unspecified or (isinstance(ip, IPv4Address) and ip.packed[0] == 0):
        return "unspecified"
    if ip.is_multicast or ip == IPv4Address("255.255.255.255"):
        return "not one machine"
    return None


def _is_private(ip: Address) -> bool:
    return not ip.is_global or (isinstance(ip, IPv6Address) and ip.is_site_local)


def _meant(ip: Address) -> Address:
    """Return the IPv4 address that packets to this one reach, if it only stands for one."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    # without a scope, which may stand behind any address and is looked at only where that is link-local
    plain = IPv6Address(ip.packed)
    if plain in _MAPPED or (plain in _COMPATIBLE and plain not in _OWN) or any(plain in network for network in _TRANSLATED):
        return IPv4Address(ip.packed[12:])
    return plain


def _network(text: str) -> Network:
    """Return the network, in IPv4 if it only spells one: what is judged is in IPv4 by then."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))
    return network
