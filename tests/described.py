"""What a webhook tells, held against the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.catalogue import ENTRIES

_TYPES = {"string": str, "integer": int, "boolean": bool, "object": dict}


def faults(event: str, data: Mapping[str, object]) -> list[str]:
    """Return what is wrong with an event's data by the catalogue, in sentences; nothing if it is as described."""
    entry = ENTRIES.get(event)
    if entry is None:
        return [f"{event} is not in the catalogue"]
    known = {fact.name: fact for fact in entry.facts}
    found = [f"{event}.{name} is not in the catalogue" for name in data if name not in known]
    for name, fact in known.items():
        if name not in data:
            if not fact.is_optional:
                found.append(f"{event}.{name} is missing")
        elif _TYPES[fact.type] is not type(data[name]):
            found.append(f"{event}.{name} is not of type {fact.type}")
    return found
