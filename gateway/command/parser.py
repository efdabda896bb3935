"""The command line of `rawpush` as a whole: every command with its options and its help."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from gateway import __version__
from gateway.command import completion, doctor, listen, operator, option, publish, tail, webhooks

_ABOUT = """\
RawPush Gateway: Pusher Channels over WebSockets, with signed webhooks whose ledger balances.

Browsers and apps connect with the client library they have (pusher-js, Laravel Echo, ...), back ends publish with
the Pusher HTTP SDK they have, and the gateway tells them through webhooks what happens: who connected, which
channel woke up or fell empty, what was published, what was refused.
"""

_EXAMPLES = """\
the first five minutes:
  rawpush dev                                everything in one terminal, no file needed

with a file (config.example.toml lists every setting):
  rawpush check -c config.toml               all mistakes, with their places
  rawpush check -c config.toml --resolved    every value, and where it came from
  rawpush serve -c config.toml               run it; SIGTERM or Ctrl-C stops it, and loses nothing

against a running gateway:
  rawpush status -c config.toml              is it well, and what is happening
  rawpush doctor -c config.toml --url wss://rt.example.com
  rawpush reload -c config.toml              read the file again; connections stay
  rawpush publish -c config.toml room-7 created '{"id":17}'
  rawpush tail -c config.toml room-7         what arrives on a channel
  rawpush listen -c config.toml --forward http://localhost:3000/webhooks
  rawpush webhooks list -c config.toml       state, backlog and dead letters of each endpoint
  rawpush webhooks replay -c config.toml backend --dead

completion in your shell:
  eval "$(rawpush completion bash)"           or zsh; fish: rawpush completion fish | source

exit codes: 0 done, 1 it failed, 2 wrong usage
"""

_SERVE = """\
Run the gateway. The file is checked first: with any mistake in it nothing is started and the port stays closed.
Start-up lines and "ready" go to standard output, the log to standard error.

SIGTERM or Ctrl-C: no new connections, the live ones are sent away over [server] drain, what is due is delivered for
at most [server] shutdown_timeout, and the rest waits in the outbox for the next start.

Any setting outside of [[apps]] can be overridden from the environment, for example
RAWPUSH_SERVER__PORT=8001 or RAWPUSH_LOG__LEVEL=debug.
"""

_CHECK = """\
Read the file and the environment as "serve" would, without starting anything. Every mistake is printed, with its
line, its place and, for a misspelt name, the nearest valid one; the exit code is 1 if there is any.
"""

_DEV = """\
A gateway on this machine's loopback address with an app that lives as long as the command, and a receiver that
verifies every webhook and prints it in one line. Prints what to paste into a page, into Node and into Python, and
answers at /pusher/auth, so that private and presence channels work without a back end. Nothing is kept.
"""

_SERVE_EXAMPLES = """\
  rawpush serve -c config.toml
  RAWPUSH_SERVER__PORT=8001 rawpush serve -c config.toml
"""

_CHECK_EXAMPLES = """\
  rawpush check -c config.toml
  rawpush check -c config.toml --resolved | grep webhooks
  rawpush check -c config.toml --json | jq -r '.mistakes[].place'
"""

_DEV_EXAMPLES = """\
  rawpush dev
  rawpush dev --port 0
"""


def command_line() -> argparse.ArgumentParser:
    """Return the parser of everything; what a command does stands in `run`, but for those that cli.py does itself."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("rawpush", description=_ABOUT, epilog=_EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"rawpush {__version__}", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    dev = option.add_parser(commands, "dev", None, help="try everything out, without a file", about=_DEV, examples=_DEV_EXAMPLES)
    serve = option.add_parser(commands, "serve", None, help="run the gateway", about=_SERVE, examples=_SERVE_EXAMPLES)
    check = option.add_parser(commands, "check", None, help="say what is wrong in a file", about=_CHECK, examples=_CHECK_EXAMPLES)
    for command in (serve, check):
        option.add_config(command)
    check.add_argument("--resolved", action="store_true", help="print every value and where it came from; secrets only as set")
    option.add_json(check, "print what was found as one JSON object")
    dev.add_argument("--port", type=_port, metavar="N", help="0: any free port; default: 6001, or a free one if that is taken")
    for room in (doctor, operator, publish, tail, listen, webhooks, completion):
        room.add_parser(commands)
    return parser


def subcommands(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield the commands of a parser, each with the line that says what it is for, in the order of the help."""
    # argparse tells this only of its own insides, to everybody who writes pages or completions about a parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield action.choices[choice.dest], choice.help or ""


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: it must be a number from 0 to 65535")
    return int(text)
