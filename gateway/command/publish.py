"""`rawpush publish CHANNEL EVENT [DATA]`: one publish over the HTTP API."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from gateway.command import option

DONE = 0

_ABOUT = """\
Publish one event on one channel, as a back end would: over the HTTP API, signed with the app's secret. Nothing is printed
where that went well.
"""

_EXAMPLES = """\
  rawpush publish -c config.toml room-7 created '{"id":17}'
  rawpush publish --app 1001 --key demo-key --secret env:DEMO_SECRET --url https://rt.example.com room-7 created
  date | rawpush publish -c config.toml clock ticked -
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `rawpush`."""
    parser = option.add_parser(
        commands, "publish", run, help="publish one event through a running gateway", about=_ABOUT, examples=_EXAMPLES
    )
    option.add_app(parser)
    parser.add_argument("channel", metavar="CHANNEL", help="on which channel")
    parser.add_argument("event", metavar="EVENT", help="the name of the event")
    parser.add_argument("data", metavar="DATA", nargs="?", default="{}", help='JSON or any text; "-" reads it; default: {}')


def run(options: argparse.Namespace) -> int:
    """Publish and return the exit code; raises ConfigError, Misused and Refused."""
    # Not at the top, for the reason given in `webhooks.run`.
    from gateway.command.client import open_client

    data = sys.stdin.read() if options.data == "-" else options.data
    client = open_client(options)
    client.post("events", {"name": options.event, "channel": options.channel, "data": data})
    return DONE
