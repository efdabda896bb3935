"""Who is let in: the decision on a connection whose upgrade was answered."""

from __future__ import annotations

from gateway.core.app import App, allows_origin
from gateway.core.error import Code
from gateway.core.value import value

#: The protocol versions there are clients for (Pusher protocol: 1 to 3 are retired).
_PROTOCOLS = ("4", "5", "6", "7")


@value
class Handshake:
    """What the front door read of an upgrade request; texts are valid Unicode without control characters, cut to 512."""

    key: str
    protocol: str | None
    client: str | None
    version: str | None
    origin: str | None
    user_agent: str | None
    remote_ip: str
    #: the client's side of the line is TLS: ours, or that of a proxy that is trusted to say so
    is_secure: bool = False

    def facts(self) -> dict[str, object]:
        """Return what lifecycle events tell of the connection; what the client did not say is left out."""
        facts: dict[str, object] = {"remote_ip": self.remote_ip}
        if self.user_agent is not None:
            facts["user_agent"] = self.user_agent
        if self.origin is not None:
            facts["origin"] = self.origin
        if self.client is not None:
            facts["client"] = self.client if self.version is None else f"{self.client}/{self.version}"
        facts["protocol"] = int(self.protocol or _PROTOCOLS[-1])
        return facts


def refusal(
    handshake: Handshake, app: App | None, *, is_open: bool, may_come: bool, has_room: bool, connections: int
) -> tuple[Code, str] | None:
    """Return why the connection is refused, with the code to send, or None to admit it.

    `is_open`: the node takes connections now; `may_come`: its address has not brought too many of late; `has_room`: what the
    connection causes could be recorded; `connections`: how many the app has. The checks and their order are those the Pusher
    protocol recommends; all refusals come after the upgrade, since an HTTP status would leave clients without a code.
    """
    if not is_open:
        return Code.OVER_CAPACITY, "this server is not taking connections now; come back later"
    if not may_come:
        return Code.OVER_CAPACITY, "too many connections have come from this address of late; come back later"
    if handshake.protocol is None:
        if app is None or app.needs_protocol:
            return Code.NO_PROTOCOL, "the query parameter `protocol` is missing; versions 4 to 7 are spoken here"
    elif handshake.protocol not in _PROTOCOLS:
        return Code.UNSUPPORTED_PROTOCOL, "this protocol version is not spoken here; versions 4 to 7 are"
    if app is None:
        return Code.UNKNOWN_APP, "no app has this key"
    if not app.enabled:
        return Code.APP_DISABLED, "this app is disabled"
    if app.needs_tls and not handshake.is_secure:
        return Code.TLS_REQUIRED, "this app takes connections over TLS only"
    if not allows_origin(app, handshake.origin):
        return Code.UNAUTHORISED, "pages of this origin may not connect to this app"
    if app.limits.connections and connections >= app.limits.connections:
        code = Code.OVER_QUOTA if app.hard_connection_limit else Code.OVER_CAPACITY
        return code, "this app has no connection left"
    if not has_room:
        return Code.OVER_CAPACITY, "the event queue is full; come back later"
    return None
