"""What a backend can do with users."""

from __future__ import annotations

from gateway.api.call import Call


async def terminate_connections(call: Call) -> dict[str, object]:
    """Close all connections signed in as the user that the path names; one who has none is no error."""
    call.node.users.terminate(call.app.id, call.name)
    return {}
