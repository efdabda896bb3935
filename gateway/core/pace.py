"""How long a lane rests between two webhooks that carry several events."""

from __future__ import annotations

#: Seconds of rest at the most: a receiver that takes long has its events piled up by that anyway.
MOST_S = 0.05


def rest_s(took_s: float, count: int, most: int) -> float:
    """Return the seconds until a lane's next webhook, after one with `count` of at most `most` events that took `took_s` in all.

    As long again as the last one took: so the webhooks of a busy gateway become twice as large and half as many, which leaves
    it less busy, and a quiet one's hardly wait. Where the last one was full there is a backlog, and no reason to rest.
    """
    return 0.0 if count >= most else min(max(0.0, took_s), MOST_S)
