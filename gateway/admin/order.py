"""What an operator may have done, beside what the desk does: reload, publish, end a connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway.admin.call import AppCall
from gateway.admin.live import find
from gateway.core.error import Code, RequestError
from gateway.core.publication import parse_event
from gateway.desk.answer import Answer
from gateway.desk.question import check_names

#: reads the file again; returns a status and an answer, raises RequestError and OSError
Reload = Callable[[], Awaitable[tuple[int, Answer]]]


async def publish(call: AppCall) -> Answer:
    """Publish one event, given as in the HTTP API; the answer waits until it is recorded."""
    check_names(call.parameters, ())
    if not call.app.enabled:
        raise RequestError(403, "the app is disabled", "path")
    recorded = call.sources.node.publish([parse_event(call.json(), call.app, call.trace)])
    if recorded is not None:
        await recorded
    return {}


async def terminate(call: AppCall) -> Answer:
    """End a connection: with `{"reconnect": true}` its client comes back at once, else it is told to stay away."""
    check_names(call.parameters, ())
    body = call.json() if call.body else {}
    if not isinstance(body, dict):
        raise RequestError(400, "the body must be a JSON object", "body")
    check_names(body, ("reconnect",))
    comes_back = body.get("reconnect", False)
    if not isinstance(comes_back, bool):
        raise RequestError(400, "must be true or false", "reconnect")
    live = find(call)
    code = Code.RECONNECT if comes_back else Code.UNAUTHORISED
    sentence = "the operator ended this connection" + ("; reconnect" if comes_back else "")
    call.sources.node.kick(live, code, sentence, "terminated")
    return {"socket_id": live.socket_id, "code": int(code)}


async def terminate_user(call: AppCall) -> Answer:
    """End all connections signed in as a user, on all nodes; one who has none is no error."""
    check_names(call.parameters, ())
    call.sources.node.users.terminate(call.app.id, call.name)
    return {}
