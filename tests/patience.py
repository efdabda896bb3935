"""How long tests wait for what must come."""

from __future__ import annotations

#: Seconds. A wait ends with what it waits for; its limit is for a product that is broken, not for a machine that is slow.
#: Polls of the feed that must be let go wait for 50, which is more.
LONG_S = 40.0
