"""The decorator for values that are made for every event."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_Class]) -> type[_Class]:
    """Make a dataclass with slots that nobody may change; the type checker sees to that, and it is hashed by its fields.

    A frozen dataclass guards itself while the program runs, and for that sets each field through a call: making one takes
    four times as long.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
