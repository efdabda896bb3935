"""`rawpush status` and `rawpush reload`: what an operator asks of the admin port, and has done."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from gateway.command import option, show
from gateway.config import ConfigError, load_admin

if TYPE_CHECKING:
    from gateway.command.admin import AdminClient

DONE, FAILED = 0, 1

_STATUS = """\
Print how a running gateway is doing: whether it accepts work, what happens per second, and a line for each app and
endpoint. The exit code is 1 where it does not accept work.
"""

_RELOAD = """\
Have a running gateway read its file again, as SIGHUP does: apps and endpoints change, connections stay. With any mistake
in the file nothing is changed, and each of them is printed; the exit code is 1 then.
"""

_STATUS_EXAMPLES = """\
  rawpush status -c config.toml
  rawpush status -c config.toml --json | jq .per_second
"""

_RELOAD_EXAMPLES = """\
  rawpush check -c config.toml && rawpush reload -c config.toml
"""


def add_parser(commands: Any) -> None:
    """Add the commands to the parser of `rawpush`."""
    ways: tuple[tuple[str, str, str, str, Callable[[AdminClient, argparse.Namespace], int]], ...] = (
        ("status", "how a running gateway is doing", _STATUS, _STATUS_EXAMPLES, _status),
        ("reload", "have a running gateway read its file again", _RELOAD, _RELOAD_EXAMPLES, _reload),
    )
    for name, text, about, examples, run in ways:
        one = option.add_parser(commands, name, _run, help=text, about=about, examples=examples)
        option.add_config(one)
        one.add_argument("--url", metavar="URL", help="where the admin port is; default: where [admin] of the file says")
        option.add_json(one, "print the answer as it came")
        one.set_defaults(ask=run)


def _run(options: argparse.Namespace) -> int:
    """Do what was asked and return the exit code; raises ConfigError, Misused and Refused."""
    # Not at the top: what it imports would slow down the commands that need no client.
    from gateway.command.admin import AdminClient

    try:
        admin = load_admin(options.config, os.environ)
    except ConfigError as error:
        if not options.json:
            raise
        # Where to ask is said in there.
        print(
            orjson.dumps(
                {"error": "the file has mistakes; nothing was asked", "mistakes": list(map(str, error.problems))}
            ).decode()
        )
        return FAILED
    code: int = options.ask(AdminClient(admin, options.url), options)
    return code


def _status(client: AdminClient, options: argparse.Namespace) -> int:
    _, answer = client.call("GET", "/v1/overview", limit=500)
    _print(answer, options, show.overview)
    return DONE if answer["ready"] else FAILED


def _reload(client: AdminClient, options: argparse.Namespace) -> int:
    status, answer = client.call("POST", "/v1/reload", accepts=(422,))
    if status == 422 and not options.json:
        for mistake in answer["mistakes"]:
            print(show.mistake(mistake), file=sys.stderr)
        print(f"rawpush: {show.text(answer['error'])}", file=sys.stderr)
        return FAILED
    _print(answer, options, show.reloaded)
    return DONE if status == 200 else FAILED


def _print(answer: Any, options: argparse.Namespace, lines: Callable[[Any], Iterable[str]]) -> None:
    for line in [orjson.dumps(answer).decode()] if options.json else lines(answer):
        print(line, flush=True)
