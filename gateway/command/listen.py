"""`rawpush listen`: an app's webhooks on one's own machine, out of the feed, without a tunnel."""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson

from gateway.command import option, show
from gateway.command.error import Misused, Refused
from gateway.config import shown_url
from gateway.config.kind import Wrong, duration
from gateway.core.endpoint import Endpoint, check, kinds_of
from gateway.core.format import FORMATS

if TYPE_CHECKING:
    from gateway.command.client import Client
    from gateway.command.forward import Forwarder
    from gateway.command.target import Target

#: Seconds a question waits for something to happen, and the longest pause before one that failed is asked again.
_WAIT_S, _LONGEST_S = 50, 30.0

#: entries a question asks for
_PAGE = 500

#: of an endpoint's settings: the option that stands for it
_OPTIONS = {"url": "--forward", "secrets": "--webhook-secret", "events": "--events", "format": "--format"}

_ABOUT = """\
Receive the webhooks of an app on this machine: each event is printed in a line, and with --forward sent to a local
server as a webhook, with the same id, body, headers and signatures that an endpoint gets. Nothing has to reach this
machine from outside: the events are asked for over the HTTP API, one request after the other, and none is missed while
the connection is gone. Endpoints of the file get theirs as ever.

What is forwarded is signed with --webhook-secret, else with a secret made from the app's, which is printed at the start.
It says "webhook_id": "listen" and "sequence": 0, and is not sent again where the local server fails.

An app without webhooks keeps no events, unless its setting feed says which. Ctrl-C ends it, with exit code 0, and says
how to go on.
"""

_EXAMPLES = """\
  rawpush listen -c config.toml
  rawpush listen -c config.toml --forward http://localhost:3000/webhooks
  rawpush listen -c config.toml --events 'channel.*' --channels 'presence-*' --since 10m
  rawpush listen --app 1001 --key demo-key --secret env:DEMO_SECRET --url https://rt.example.com --json | jq .event
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `rawpush`."""
    parser = option.add_parser(
        commands, "listen", run, help="receive an app's webhooks on this machine", about=_ABOUT, examples=_EXAMPLES
    )
    option.add_app(parser)
    parser.add_argument("--forward", metavar="URL", help="send each event there, such as http://localhost:3000/webhooks")
    parser.add_argument(
        "--webhook-secret", metavar="SECRET", help="signs what is forwarded: the secret itself, env:NAME or file:PATH"
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="event", help="of what is forwarded; default: event")
    parser.add_argument("--events", nargs="+", default=["*"], metavar="GLOB", help="only these kinds, such as 'channel.*'")
    parser.add_argument("--channels", nargs="+", default=["*"], metavar="GLOB", help="only of these channels, such as 'room-*'")
    parser.add_argument(
        "--since",
        type=_since,
        default="latest",
        metavar="WHEN",
        help="begin with what is past: a cursor (0: all that is kept) or a duration such as 10m; default: what is to come",
    )
    parser.add_argument("--count", type=option.whole(1), metavar="N", help="end after so many events; default: never")
    option.add_json(parser, "print each event as a JSON object in a line of its own")


def _since(text: str) -> int | float | str:
    """Return a cursor, seconds as a float, or "latest"."""
    if text == "latest":
        return text
    if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        return int(text)
    try:
        return float(duration(0, 10**8).read(text, {}))
    except Wrong:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a cursor nor a duration such as 10m") from None


def run(options: argparse.Namespace) -> int:
    """Listen and return the exit code; raises ConfigError, Misused and Refused."""
    # Not at the top, for the reason given in `webhooks.run`.
    from gateway.command.client import Client
    from gateway.command.forward import Forwarder
    from gateway.command.target import target

    found = target(options)
    endpoint = _endpoint(found, options)
    _check_feed(found, endpoint)
    if options.forward is not None:
        _note(f"forwarding to {shown_url(endpoint.url)}")
        if options.webhook_secret is None:
            _note(f"signed with the secret {endpoint.secrets[0]}")
    return _Listener(Client(found), Forwarder(endpoint), options).listen()


def _endpoint(found: Target, options: argparse.Namespace) -> Endpoint:
    """Return the endpoint that this machine would be; raises Misused where the options make none."""
    from gateway.command.forward import NAME, secret_for

    given = options.webhook_secret
    endpoint = Endpoint(
        app_id=found.app.id,
        name=NAME,
        url=options.forward or "http://localhost/",
        secrets=(secret_for(found.app) if given is None else option.read_secret("--webhook-secret", given),),
        events=tuple(options.events),
        channels=tuple(options.channels),
        format=options.format,
        pusher_key=found.app.key,
        pusher_secret=found.app.secret,
    )
    for field, sentence in check(endpoint):
        raise Misused(f"{_OPTIONS.get(field, field)}: {sentence}")
    return endpoint


def _check_feed(found: Target, endpoint: Endpoint) -> None:
    """Say which events are asked for and never kept, as far as the file tells."""
    from gateway.core.webhook import Router

    if found.entry is None:
        return
    router = Router(found.entry.endpoints, "", {}, {found.app.id: found.app.feed})
    missing = kinds_of(endpoint.events) - router.wanted.get(found.app.id, frozenset())
    if missing == kinds_of(endpoint.events):
        _note(f'none of these events is kept: app {found.app.id} has no endpoint that wants them, and no feed = ["*"]')
    elif missing and endpoint.events != ("*",):
        _note(f"not kept, since no endpoint wants them and feed does not name them: {', '.join(sorted(missing))}")


class _Listener:
    """Asks for page after page; `_cursor` is that of the last event that has been dealt with."""

    def __init__(self, client: Client, forwarder: Forwarder, options: argparse.Namespace) -> None:
        self._client = client
        self._forwarder = forwarder
        self._options = options
        self._left: int | None = options.count
        is_duration = isinstance(options.since, float)
        self._from_ms = time.time() * 1000 - options.since * 1000 if is_duration else 0.0
        self._cursor: int | str = 0 if is_duration else options.since

    def listen(self) -> int:
        try:
            self._take(self._ask(0))
            _note(f"listening to app {self._client.app.id} at {self._client.url}")
            while self._left != 0:
                self._take(self._patiently())
        except KeyboardInterrupt:
            if self._cursor != "latest":
                _note(f"go on with: --since {self._cursor}")
        return 0

    def _ask(self, wait_s: int) -> Any:
        events = ",".join(self._options.events)
        return self._client.get("webhooks/events", after=self._cursor, limit=_PAGE, event=events, wait=wait_s)

    def _patiently(self) -> Any:
        """Return the next page, however long the gateway is away; raises Refused where it wants nothing of this."""
        failures = 0
        while True:
            try:
                return self._ask(_WAIT_S)
            except Refused as error:
                if error.status == 400 and self._cursor:
                    # It has lost its ledger, or never kept it: all that is in the new one is new.
                    _note(f"{error}; going on with the first event there is")
                    self._cursor = 0
                    continue
                if 0 < error.status < 500 and error.status != 429:
                    raise
                if not failures:
                    _note(f"{error}; trying again")
                failures += 1
                time.sleep(random.uniform(0.5, min(_LONGEST_S, 2.0 ** min(failures, 10))))

    def _take(self, page: Any) -> None:
        if self._cursor not in (0, "latest") and int(self._cursor) < page["forgotten"]:
            _note(f"what came before cursor {page['forgotten']} has been forgotten")
        for entry in page["events"]:
            if self._left == 0:
                return
            self._deal_with(entry)
            self._cursor = entry["cursor"]
        self._cursor = page["cursor"]

    def _deal_with(self, entry: dict[str, Any]) -> None:
        from gateway.command.forward import event_of

        event = event_of(entry)
        if event.at_ms < self._from_ms or not self._forwarder.wants(event):
            return
        if self._left is not None:
            self._left -= 1
        if not self._options.json:
            _say(show.event(entry))
        told = self._forwarder.post(event) if self._options.forward is not None else None
        if self._options.json:
            _say(orjson.dumps(entry if told is None else {**entry, "forwarded": told}).decode())
        elif told is not None:
            _say(f"          -> {show.text(show.came_back(told))}")


def _say(line: str) -> None:
    print(line, flush=True)


def _note(sentence: str) -> None:
    print(show.whole_text(sentence), file=sys.stderr, flush=True)
