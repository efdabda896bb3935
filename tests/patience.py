"""How long tests wait for what must come."""

from __future__ import annotations

#: Seconds. A wait ends with what it waits for; its limit is for a product that is broken, not for a machine that is slow.
LONG_S = 60.0
