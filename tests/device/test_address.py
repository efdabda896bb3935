from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Outcome, Stage
from gateway.core.endpoint import Endpoint
from gateway.delivery.address import AddressRules
from gateway.delivery.sender import HttpSender

METADATA = IPv4Address("169.254.169.254")


def spellings(ip: IPv4Address) -> list[str]:
    """Every IPv6 address that only stands for this one."""
    high, low = divmod(int(ip), 65_536)
    inverted = int(ip) ^ 0xFFFFFFFF
    return [
        f"::ffff:{ip}",
        f"::ffff:{high:x}:{low:x}",
        f"::{high:x}:{low:x}",
        f"64:ff9b::{high:x}:{low:x}",
        f"64:ff9b:1::{high:x}:{low:x}",
        f"64:ff9b:1:2:3:4:{high:x}:{low:x}",
        f"::ffff:0:{high:x}:{low:x}",
        f"2002:{high:x}:{low:x}::1",
        str(IPv6Address(0x20010000 << 96 | inverted)),
    ]


@pytest.mark.parametrize(
    "address",
    [
        str(METADATA),
        *spellings(METADATA),
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "fd00:ec2::254",
        "fd00:ec2::254%eth0",
        "fd00:ec2::23",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::%eth0",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
    ],
)
def test_what_is_refused_unless_it_is_allowed(address: str) -> None:
    assert AddressRules().refusal(address)
    assert AddressRules(allow=["10.0.0.0/8", "2001:db8::/32"]).refusal(address)
    assert AddressRules(allow=["0.0.0.0/0", "::/0"]).refusal(address) is None


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::1", "fec0::1", "::ffff:10.0.0.1"],
)
def test_what_is_private_is_refused_only_if_asked_for(address: str) -> None:
    assert AddressRules().refusal(address) is None
    assert AddressRules(private_allowed=False).refusal(address) == "private"
    assert AddressRules(private_allowed=False, allow=["10.0.0.0/8"]).refusal(address) == (
        None if address.endswith("10.0.0.1") else "private"
    )


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "169.253.1.1"])
def test_what_is_public_is_allowed(address: str) -> None:
    assert AddressRules(private_allowed=False).refusal(address) is None


@pytest.mark.parametrize(
    ("refuse", "address"),
    [
        ("10.0.0.0/8", "10.255.255.255"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/8", "10.9.9.9"),
        ("93.184.216.0/24", "93.184.216.34"),
        ("2606:2800::/32", "2606:2800:220:1::1"),
        ("::ffff:10.0.0.0/104", "10.0.0.1"),
        ("64:ff9b::/96", "64:ff9b::5db8:d822"),
        ("0.0.0.0/0", "127.0.0.1"),
    ],
)
def test_what_is_in_a_refused_network_is_refused_and_its_neighbour_is_not(refuse: str, address: str) -> None:
    assert AddressRules(refuse=[refuse]).refusal(address) == "in a network that is refused"
    assert AddressRules(refuse=[refuse], allow=[address]).refusal(address) == (
        # what is translated is allowed by its IPv4 address
        None if not address.startswith("64:") else "in a network that is refused"
    )
    assert AddressRules(refuse=["192.0.2.0/24", "2001:db8::/32"]).refusal(address) is None


@given(st.ip_addresses(v=4))
def test_a_refused_address_is_refused_however_it_is_spelt(ip: IPv4Address) -> None:
    rules = AddressRules(refuse=[f"{ip}/32"])
    for spelling in (str(ip), *spellings(ip)):
        if spelling not in ("::", "::1", "::0:0", "::0:1"):  # these are addresses of their own
            assert rules.refusal(spelling), spelling


def test_what_is_no_network_is_an_error() -> None:
    with pytest.raises(ValueError):
        AddressRules(refuse=["example.com"])
    with pytest.raises(ValueError):
        AddressRules().refusal("example.com")


# -- at the sender: what counts is what is connected to


class Names(AbstractResolver):
    """Answers from a script: each look-up takes the next list of addresses, the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        self.asked += 1
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


class World:
    """A receiver on loopback that counts its connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def send(self, host: str, names: Names | None = None, **rules: Any) -> Outcome:
        sender = HttpSender(rules=AddressRules(**rules), resolver=names)
        try:
            return await sender.send(Endpoint("1", "a", f"http://{host}:{self.port}/", ("s",), timeout_s=5), {}, b"{}")
        finally:
            await sender.close()


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "127.1", "0177.0.0.1", "0x7f.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]", "[::7f00:1]"]
)
async def test_no_spelling_of_a_refused_address_is_connected_to(host: str) -> None:
    async with world() as here:
        names = Names(["127.0.0.1"])  # what some resolvers make of a number that is no address
        outcome = await here.send(host, names, refuse=["127.0.0.0/8"])
        assert outcome.stage is Stage.REFUSED
        assert here.connections == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "::7f00:1"])
async def test_a_name_that_leads_to_a_refused_address_is_not_connected_to(address: str) -> None:
    async with world() as here:
        outcome = await here.send("hooks.test", Names([address]), refuse=["127.0.0.0/8"])
        assert outcome.stage is Stage.REFUSED
        assert "nothing may be sent there" in outcome.error
        assert here.connections == 0
        assert (await here.send("hooks.test", Names(["127.0.0.1"]))).is_success


async def test_a_name_that_changes_its_answer_is_not_asked_twice_for_one_connection() -> None:
    async with world() as here:
        names = Names(["93.184.216.34", "127.0.0.1"], ["127.0.0.1"])
        outcome = await here.send("hooks.test", names, private_allowed=False, refuse=["93.0.0.0/8"])
        assert (outcome.stage, names.asked, here.connections) == (Stage.REFUSED, 1, 0)
        names = Names(["10.0.0.1", "127.0.0.1"])
        assert (await here.send("hooks.test", names, private_allowed=False, allow=["127.0.0.1/32"])).is_success
        assert (names.asked, here.connections) == (1, 1)


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "2130706433", "127.1"])
async def test_even_if_all_else_lets_it_through_the_socket_is_not_made(address: str) -> None:
    sender = HttpSender(rules=AddressRules(refuse=["127.0.0.0/8"]))
    with pytest.raises(Exception, match="nothing may be sent there"):
        sender._make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)))
    await sender.close()


async def test_an_exception_opens_one_address_of_a_refused_network() -> None:
    async with world() as here:
        assert (await here.send("127.0.0.1", refuse=["127.0.0.0/8"], allow=["127.0.0.1/32"])).is_success
        assert (await here.send("127.0.0.2", refuse=["127.0.0.0/8"], allow=["127.0.0.1/32"])).stage is Stage.REFUSED
