"""The client's side of one connection, without the connection: texts in; what to send, and what there is to tell, out.

Signs its own subscriptions, as only somebody who holds the app's secret can.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.command.decryption import Sealed
from gateway.core.app import App
from gateway.core.channel import kind_of

#: what the gateway tells under a name that client libraries do not show
_INTERNAL = "pusher_internal:"

#: frames that are part of the conversation, and no news
_SILENT = frozenset({"pusher:pong", "pusher:ping", "pusher:connection_established", "pusher:error"})

#: Seconds: the pause the protocol asks for where a server is full, the longest one, and from when on a connection that
#: ended has been one. A server that sends everybody back at once, at once, is not to be helped with that.
_FIRST_S, _LONGEST_S, _LIVED_S = 1.0, 30.0, 1.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """An event on a channel; `data` is the text that came, opened where it was encrypted."""

    channel: str
    event: str
    data: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know about the connection or a channel."""

    sentence: str


@dataclass(slots=True)
class Heard:
    """What a text from the gateway leads to."""

    send: list[str] = field(default_factory=list)
    told: list[Arrived | Note] = field(default_factory=list)


class Subscriber:
    """One connection's conversation: feed every text that comes to `receive`, and send what it returns.

    `user_id` is who joins presence channels; `sealed` opens encrypted channels.
    """

    def __init__(self, app: App, channels: Iterable[str], *, user_id: str, sealed: Sealed | None = None) -> None:
        self._app = app
        self._channels = list(dict.fromkeys(channels))
        self._user_id = user_id
        self._sealed = sealed
        #: empty until the connection is established
        self.socket_id = ""
        #: of the last error frame that had one, and its sentence
        self.code: int | None = None
        self.error = ""
        self.refused: set[str] = set()

    @property
    def is_alone(self) -> bool:
        """Tell whether every channel was refused, so that nothing can ever come."""
        return len(self.refused) == len(self._channels)

    def receive(self, text: str) -> Heard:
        """Return what to send and to tell; a text that is no frame is told, and changes nothing."""
        try:
            frame = orjson.loads(text)
            event, channel, data = frame["event"], frame.get("channel", ""), frame.get("data", "")
            if event == "pusher:connection_established":
                self.socket_id = str(_object(data)["socket_id"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return Heard(told=[Note(f"what came is no frame of the protocol: {text[:100]}")])
        match event:
            case "pusher:connection_established":
                return Heard([self._subscribe(one) for one in self._channels], [Note(f"connected as {self.socket_id}")])
            case "pusher:ping":
                return Heard(['{"event":"pusher:pong","data":"{}"}'])
            case "pusher:error":
                return Heard(told=[Note(self._failed(_object(data)))])
            case "pusher_internal:subscription_succeeded":
                return Heard(told=[Note(f"following {channel}{_company(_object(data))}")])
            case "pusher:subscription_error":
                self.refused.add(channel)
                return Heard(told=[Note(f"refused {channel}: {_object(data).get('error', data)}")])
        if event in _SILENT or not channel:
            return Heard()
        return Heard(told=self._arrived(channel, str(event), data, frame.get("user_id")))

    def _failed(self, told: dict[str, Any]) -> str:
        code, self.error = told.get("code"), str(told.get("message", "an error"))
        if isinstance(code, int):
            self.code = code
        return f"the gateway says: {self.error}" + (f" ({code})" if code else "")

    def _arrived(self, channel: str, event: str, data: object, user_id: str | None) -> list[Arrived | Note]:
        # pusher-js tells its users of these under this name
        event = f"pusher:{event.removeprefix(_INTERNAL)}" if event.startswith(_INTERNAL) else event
        text = data if isinstance(data, str) else orjson.dumps(data).decode()
        if self._sealed is None or kind_of(channel).type != "encrypted" or event.startswith("pusher:"):
            return [Arrived(channel, event, text, user_id)]
        try:
            return [Arrived(channel, event, self._sealed.open(channel, text), user_id)]
        except ValueError as wrong:
            return [Note(f"{channel} {event}: {wrong}"), Arrived(channel, event, text, user_id)]

    def _subscribe(self, channel: str) -> str:
        kind = kind_of(channel)
        data = {"channel": channel}
        text = f"{self.socket_id}:{channel}"
        if kind.has_members:
            data["channel_data"] = orjson.dumps({"user_id": self._user_id, "user_info": {"name": self._user_id}}).decode()
            text += f":{data['channel_data']}"
        if kind.needs_auth:
            data["auth"] = f"{self._app.key}:{hmac.new(self._app.secret.encode(), text.encode(), hashlib.sha256).hexdigest()}"
        return orjson.dumps({"event": "pusher:subscribe", "data": data}).decode()


def pause_s(code: int | None, *, lived_s: float, failures: int, roll: float) -> float | None:
    """Return after how long to connect again, None for never (Pusher protocol: ranges of close codes).

    `code` is that of the error or of the close (None: the line was cut), `lived_s` for how long the connection was
    established, `failures` how many ended in a row before they were, this one included; `roll` is random, from 0 to 1.
    """
    code = code or 0
    if 4000 <= code < 4100 or 4300 <= code < 5000:
        return None
    if 4200 <= code < 4300 and lived_s >= _LIVED_S:
        return 0.0
    longest = min(_LONGEST_S, _FIRST_S * 2.0 ** min(failures, 10))
    return _FIRST_S + roll * (longest - _FIRST_S)


def _object(data: object) -> dict[str, Any]:
    """Return the object of a frame's data, which comes as text or as itself; raises ValueError where it is none."""
    found = orjson.loads(data) if isinstance(data, str) else data
    return found if isinstance(found, dict) else {}


def _company(data: dict[str, Any]) -> str:
    presence = data.get("presence")
    if not isinstance(presence, dict):
        return ""
    ids = [str(one) for one in presence.get("ids", ())]
    shown = ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")
    return f" with {len(ids)} {'member' if len(ids) == 1 else 'members'}: {shown}"
