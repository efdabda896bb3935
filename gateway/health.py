"""Health and readiness, for whoever restarts the process or sends it traffic; both unsigned."""

from __future__ import annotations

from gateway.node import Node


def health(node: Node) -> tuple[int, dict[str, object]]:
    """Say that the process lives: it got as far as answering."""
    return 200, {"ok": True}


def readiness(node: Node) -> tuple[int, dict[str, object]]:
    """Say whether new work is accepted, and why not."""
    reasons = node.why_not_ready()
    return (503, {"ready": False, "reasons": reasons}) if reasons else (200, {"ready": True})
