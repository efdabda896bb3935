from __future__ import annotations

import pytest

from gateway.delivery.address import refusal


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "febf::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
    ],
)
def test_what_is_always_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "::ffff:10.0.0.1"])
def test_what_is_private_is_refused_only_if_asked_for(address: str) -> None:
    assert refusal(address) is None
    assert refusal(address, private_allowed=False) == "private"


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "169.253.1.1"])
def test_what_is_public_is_allowed(address: str) -> None:
    assert refusal(address, private_allowed=False) is None
