"""Chance: as wide as it says, and different each time."""

from __future__ import annotations

from gateway.chance import Chance


def test_numbers_are_of_62_bits_and_do_not_repeat() -> None:
    chance, other = Chance(), Chance()
    numbers = [chance() for _ in range(1000)] + [other() for _ in range(1000)]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 << 62 for number in numbers)
    # Each bit is sometimes set and sometimes not.
    assert all(0 < sum(number >> bit & 1 for number in numbers) < len(numbers) for bit in range(62))
