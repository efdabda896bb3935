"""`rawpush completion SHELL`: what a shell reads to complete commands, options and files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gateway.command import option

_ABOUT = """\
Print what your shell needs to complete the commands and options of rawpush, and the names of files behind -c. Read it
whenever a shell starts, or write it where your shell looks for completions.
"""

_EXAMPLES = """\
  eval "$(rawpush completion bash)"                                       in ~/.bashrc
  eval "$(rawpush completion zsh)"                                        in ~/.zshrc, after compinit
  rawpush completion fish > ~/.config/fish/completions/rawpush.fish
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `rawpush`."""
    parser = option.add_parser(
        commands, "completion", run, help="completion for bash, zsh and fish", about=_ABOUT, examples=_EXAMPLES
    )
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")


def run(options: argparse.Namespace) -> int:
    """Print the script and return the exit code."""
    # Not at the top: nobody else needs the one, and the other holds this command too.
    import shtab

    from gateway.command.parser import command_line

    parser = command_line()
    _name_files(parser, shtab.FILE)
    print(shtab.complete(parser, options.shell))
    return 0


def _name_files(parser: argparse.ArgumentParser, files: object) -> None:
    """Mark, for shtab, each option of this parser and those below it that takes the name of a file."""
    for action in parser._actions:
        if action.type is Path:
            action.complete = files  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _name_files(below, files)
