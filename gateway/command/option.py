"""Options that several commands share: which app is meant, where its gateway is, and how the answer is printed."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.command.error import Misused
from gateway.config.kind import Wrong, duration, secret

#: an argument's help, for commands that have no file to take it from
_KEY = "the app's key; with --secret no file is read"
_SECRET = "the app's secret: itself (others may see it in the list of processes), env:NAME or file:PATH"


def add_parser(
    commands: Any, name: str, run: Callable[..., int] | None, *, help: str, about: str, examples: str = "", **more: Any
) -> argparse.ArgumentParser:
    """Add a command to a group; `run` does it, `about` is the text of its --help and `examples` what can be copied."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=about,
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the file."""
    parser.add_argument(
        "-c", "--config", type=Path, default=Path("config.toml"), metavar="FILE", help="the configuration; default: config.toml"
    )


def add_app(parser: argparse.ArgumentParser, *, needs_id: bool = True) -> None:
    """Add what says which app is meant and where its gateway is: out of the file, or without one."""
    add_config(parser)
    which = "which app, where the file has several; with --key: its id" if needs_id else "which app, where the file has several"
    parser.add_argument("--app", metavar="ID", help=which)
    parser.add_argument("--key", metavar="KEY", help=_KEY)
    parser.add_argument("--secret", metavar="SECRET", help=_SECRET)
    parser.add_argument(
        "--url", metavar="URL", help="where the gateway is; default: where the file says it listens, else http://127.0.0.1:6001"
    )


def add_json(parser: argparse.ArgumentParser, help: str) -> None:
    """Add the option for programs that read what is printed."""
    parser.add_argument("--json", action="store_true", help=help)


def read_secret(name: str, text: str) -> str:
    """Return the secret that an option holds or says where it is; raises Misused, without any of it."""
    try:
        value: str = secret().read(text, os.environ)
    except Wrong as wrong:
        raise Misused(f"{name}: {wrong.found[0][1]}") from None
    return value


def seconds(low_s: float, high_s: float) -> Callable[[str], float]:
    """Return a reader of durations such as 90s or 5m, written as in the file."""

    def read(text: str) -> float:
        try:
            value: float = duration(low_s, high_s).read(text, {})
        except Wrong as wrong:
            raise argparse.ArgumentTypeError(wrong.found[0][1]) from None
        return value

    return read


def whole(low: int, high: int = 10**9) -> Callable[[str], int]:
    """Return a reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return read
