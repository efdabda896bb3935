"""`rawpush tail CHANNEL...`: subscribes, and prints what arrives."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from gateway import __version__
from gateway.command import option, show
from gateway.command.error import Misused, Refused
from gateway.command.until import until_stopped
from gateway.core.channel import is_legal, kind_of
from gateway.core.webhook import timestamp

if TYPE_CHECKING:
    from gateway.command.subscriber import Arrived, Note, Subscriber
    from gateway.command.target import Target

#: Seconds: for the handshake, and between two signs of life, which proxies often want to see once a minute.
_OPEN_S, _PING_S, _PONG_S = 10.0, 30.0, 15.0

#: the largest text taken, in bytes: far more than a gateway lets anybody publish
_LARGEST = 64 * 1024 * 1024

_ABOUT = """\
Subscribe to channels and print each event in a line: time, channel, event, data. What is said about the connection goes
to standard error. Channels of all kinds can be followed: the app's secret signs for the private ones. On a presence
channel this is a member like any other (--user), whom others see come and go, and the webhooks tell of.

A lost connection is made again as its close code asks for: at once, after a pause, or, where the gateway says to stay
away, not at all; what happened in between is missed, since a channel keeps nothing (rawpush listen misses nothing).
Ctrl-C ends it, with exit code 0.
"""

_EXAMPLES = """\
  rawpush tail -c config.toml room-7 presence-lobby
  rawpush tail -c config.toml private-orders --json | jq .data
  rawpush tail --key demo-key --secret env:DEMO_SECRET --url wss://rt.example.com room-7
  rawpush tail -c config.toml private-encrypted-chat --master-key file:master.key
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `rawpush`."""
    parser = option.add_parser(
        commands, "tail", run, help="subscribe to channels, print what arrives", about=_ABOUT, examples=_EXAMPLES
    )
    option.add_app(parser, needs_id=False)
    parser.add_argument("--user", default="rawpush-tail", metavar="ID", help="who joins presence channels; default: rawpush-tail")
    parser.add_argument(
        "--master-key", metavar="KEY", help="decrypts encrypted channels: 32 bytes in base64, env:NAME or file:PATH"
    )
    parser.add_argument("--count", type=option.whole(1), metavar="N", help="end after so many events; default: never")
    option.add_json(parser, "print each event as a JSON object in a line of its own")
    parser.add_argument("channels", nargs="+", metavar="CHANNEL", help="public, private-, presence-, private-encrypted-, cache-")


def run(options: argparse.Namespace) -> int:
    """Follow the channels and return the exit code; raises ConfigError, Misused and Refused."""
    # Not at the top, for the reason given in `webhooks.run`.
    from gateway.command.decryption import Sealed
    from gateway.command.target import target

    for channel in options.channels:
        if not is_legal(channel):
            raise Misused(f"no channel can be called {channel!r}: letters, digits and _-=@,.; and at most 164 of them")
    sealed = Sealed(option.read_secret("--master-key", options.master_key)) if options.master_key is not None else None
    if sealed is None and any(kind_of(channel).type == "encrypted" for channel in options.channels):
        _note("encrypted channels are shown as they come; --master-key decrypts them")
    return asyncio.run(until_stopped(_Tail(target(options, needs_id=False), options, sealed).follow()))


class _Tail:
    """One connection after the other."""

    def __init__(self, target: Target, options: argparse.Namespace, sealed: Any) -> None:
        self._target = target
        self._options = options
        self._sealed = sealed
        self._left: int | None = options.count

    async def follow(self) -> int:
        """Follow until enough has come; raises Refused where the gateway wants nothing of it, or never was there."""
        from gateway.command.subscriber import Subscriber, pause_s

        failures = 0
        was_connected = False
        while True:
            subscriber = Subscriber(self._target.app, self._options.channels, user_id=self._options.user, sealed=self._sealed)
            began = time.monotonic()
            code, why = await self._connection(subscriber)
            if self._left == 0:
                return 0
            if subscriber.is_alone:
                raise Refused("all channels were refused; there is nothing to follow")
            was_connected |= bool(subscriber.socket_id)
            failures = 1 if subscriber.socket_id else failures + 1
            lived_s = time.monotonic() - began if subscriber.socket_id else 0.0
            pause = pause_s(code, lived_s=lived_s, failures=failures, roll=random.random())
            if pause is None or (code is None and not was_connected):
                raise Refused(why)
            _note(f"{why}; connecting again" + (f" in {pause:.1f} s" if pause else " at once"))
            await asyncio.sleep(pause)

    async def _connection(self, subscriber: Subscriber) -> tuple[int | None, str]:
        """Make a connection and follow it to its end; return the code that decides what is next, and a sentence."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

        url = f"{self._target.socket}?protocol=7&client=rawpush&version={__version__}"
        shown = self._target.socket
        try:
            # A proxy of the environment is for the world outside; see `client.Client`.
            async with connect(
                url, proxy=None, open_timeout=_OPEN_S, ping_interval=_PING_S, ping_timeout=_PONG_S, max_size=_LARGEST
            ) as connection:
                while self._left != 0 and not subscriber.is_alone:
                    text = await connection.recv(decode=True)
                    heard = subscriber.receive(text)
                    self._tell(heard.told)
                    for answer in heard.send:
                        await connection.send(answer)
                return None, ""
        except ConnectionClosed as ended:
            close = ended.rcvd.code if ended.rcvd else None
            code = subscriber.code if subscriber.code and not subscriber.socket_id else close
            if code is not None and 4000 <= code < 4100:
                return code, f"the gateway wants no more of this: {subscriber.error or 'it closed the connection'} ({code})"
            return code, f"the connection has ended ({code or 'without a word'})"
        except InvalidStatus as refused:
            status = refused.response.status_code
            return None, f"no WebSocket at {shown}: it answered with status {status}"
        except (InvalidHandshake, InvalidURI) as wrong:
            return None, f"no WebSocket at {shown}: {wrong}"
        except (OSError, TimeoutError) as error:
            return None, f"no answer from the gateway at {shown}: {error or 'none in time'}; is it running?"

    def _tell(self, told: list[Arrived | Note]) -> None:
        from gateway.command.subscriber import Note

        for one in told:
            if isinstance(one, Note):
                _note(one.sentence)
            elif self._left != 0:
                print(line(one, time.time(), as_json=self._options.json), flush=True)
                if self._left is not None:
                    self._left -= 1


def line(arrived: Arrived, now_s: float, *, as_json: bool) -> str:
    """Return an event in one line: for people, or as JSON, where data that is JSON is what it says."""
    if as_json:
        told: dict[str, object] = {"at": timestamp(round(now_s * 1000)), "channel": arrived.channel, "event": arrived.event}
        told["data"] = _parsed(arrived.data)
        if arrived.user_id is not None:
            told["user_id"] = arrived.user_id
        return orjson.dumps(told).decode()
    at = datetime.fromtimestamp(now_s).strftime("%H:%M:%S.%f")[:-3]
    who = f"  (from {show.text(arrived.user_id)})" if arrived.user_id is not None else ""
    return f"{at}  {show.whole_text(arrived.channel)}  {show.whole_text(arrived.event)}  {show.whole_text(arrived.data)}{who}"


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _note(sentence: str) -> None:
    print(show.whole_text(sentence), file=sys.stderr, flush=True)
