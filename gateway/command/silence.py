"""How long a silent connection lives at an address: proxies and firewalls cut what is quiet, whoever wanted it open."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import orjson
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from gateway import __version__
from gateway.command.finding import Finding
from gateway.command.target import Target

_CHECK = "silence"

#: for the way in, and for the answer to the first word after the silence
_TIMEOUT_S = 10.0

#: seconds between two signs of life
_PACE_S = 1.0


def silence(target: Target, asked_s: float, tell: Callable[[str], None]) -> Finding:
    """Connect, be silent for `asked_s`, and see whether the line still carries anything; `tell` is told how far it is.

    A line is never silent for longer than the gateway's activity time-out, when one side asks the other; so this waits no
    longer either, and just that long where `asked_s` is 0.
    """
    where = urlsplit(target.socket).netloc
    context = ssl.create_default_context() if target.socket.startswith("wss:") else None
    url = f"{target.socket}?protocol=7&client=rawpush-doctor&version={__version__}"
    try:
        # Pings of its own accord would be no silence.
        with connect(url, ssl=context, proxy=None, open_timeout=_TIMEOUT_S, close_timeout=1.0, ping_interval=None) as connection:
            said = orjson.loads(connection.recv(timeout=_TIMEOUT_S))
            most_s = float(orjson.loads(said["data"])["activity_timeout"])
            return _watched(connection, where, min(asked_s or most_s, most_s), most_s, tell)
    except (OSError, WebSocketException, ValueError, AttributeError, KeyError, TypeError) as error:
        found = f"not checked: {error or 'no answer in time'}"
        return Finding(_CHECK, "warning", found, "put right first what else is wrong with this address")


def _watched(connection: ClientConnection, where: str, silent_s: float, most_s: float, tell: Callable[[str], None]) -> Finding:
    began = time.monotonic()
    try:
        while (left_s := silent_s - (time.monotonic() - began)) > 0:
            tell(f"silent for {silent_s - left_s:.0f} of {silent_s:.0f} s at {where}")
            _passed(connection, min(_PACE_S, left_s))
        connection.send('{"event":"pusher:ping","data":{}}')
        asked_at = time.monotonic()
        while (left_s := asked_at + _TIMEOUT_S - time.monotonic()) > 0:
            if _passed(connection, left_s) == "pusher:pong":
                return alive(where, silent_s, most_s)
    except ConnectionClosed as closed:
        # What is closed on the way is closed without a word of the protocol.
        code = closed.rcvd.code if closed.rcvd is not None else None
        return ended(where, time.monotonic() - began, most_s, code)
    return deaf(where, silent_s, most_s)


def _passed(connection: ClientConnection, within_s: float) -> str:
    """Return the next event that comes within so many seconds, else nothing; raises ConnectionClosed."""
    try:
        event = orjson.loads(connection.recv(timeout=within_s))["event"]
    except TimeoutError:
        return ""
    return str(event)


# -- what is made of it


def alive(where: str, silent_s: float, most_s: float) -> Finding:
    """Judge a line that carried an answer after so many seconds of silence; `most_s` is how long silence can last."""
    found = f"a connection to {where} was silent for {silent_s:.0f} s and lived on"
    if silent_s < most_s:
        return Finding(_CHECK, "warning", f"{found}; silence can last {most_s:.0f} s", "wait as long: --idle without a time")
    return Finding(_CHECK, "ok", found)


def ended(where: str, after_s: float, most_s: float, code: int | None) -> Finding:
    """Judge a line that ended in its silence; `code` is that of the close frame, None where there was none."""
    if code is not None and 4000 <= code < 5000:
        found = f"the gateway itself closed the connection to {where} after {after_s:.0f} s, with {code}"
        return Finding(_CHECK, "warning", found, "look again while the gateway is neither restarted nor reconfigured")
    found = f"a silent connection to {where} was cut after {after_s:.0f} s; silence can last {most_s:.0f} s"
    return Finding(_CHECK, "failed", found, _remedy(most_s))


def deaf(where: str, silent_s: float, most_s: float) -> Finding:
    """Judge a line that is open, and carries nothing any more."""
    found = f"after {silent_s:.0f} s of silence a connection to {where} carried nothing any more"
    return Finding(_CHECK, "failed", found, f"a firewall or NAT on the way has forgotten it: {_remedy(most_s)}")


def _remedy(most_s: float) -> str:
    return (
        f"let silence last longer than {most_s:.0f} s there (nginx: proxy_read_timeout; a load balancer: its idle time-out), "
        "or lower [server] activity_timeout"
    )
