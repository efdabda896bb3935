"""`rawpush publish CHANNEL EVENT [DATA]`: one publish over the HTTP API."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from gateway.command.webhooks import DONE, add_common


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `rawpush`."""
    parser = commands.add_parser("publish", help="publish one event through a running gateway")
    add_common(parser)
    parser.add_argument("channel", metavar="CHANNEL")
    parser.add_argument("event", metavar="EVENT")
    parser.add_argument("data", metavar="DATA", nargs="?", default="{}", help='JSON or any text; "-" reads it; default: {}')


def run(options: argparse.Namespace) -> int:
    """Publish and return the exit code; raises ConfigError, Misused and Refused."""
    # Not at the top, for the reason given in `webhooks.run`.
    from gateway.command.client import open_client

    data = sys.stdin.read() if options.data == "-" else options.data
    client = open_client(options.config, options.app, options.url)
    client.post("events", {"name": options.event, "channel": options.channel, "data": data})
    return DONE
