"""`rawpush completion`: the shells say what they complete. bash is on every machine, the others are asked where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli
from gateway.command.parser import command_line, subcommands
from tests.e2e import absent
from tests.patience import LONG_S

ROOT = Path(__file__).parent.parent

#: what bash does when somebody presses Tab: the words of the line, which of them it is, and then the registered function
_PRESS_TAB = """\
source "$1"
line=("${@:2}")
COMP_WORDS=("${line[@]}") COMP_CWORD=$((${#line[@]} - 1)) COMP_LINE="${line[*]}" COMP_POINT=${#COMP_LINE}
function=$(complete -p rawpush | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
"$function" rawpush "${line[-1]}" "${line[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    scripts = {}
    for shell in ("bash", "zsh", "fish"):
        scripts[shell] = folder / shell
        command = [sys.executable, "-m", "gateway", "completion", shell]
        scripts[shell].write_bytes(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=LONG_S).stdout)
    return scripts


def asked(command: list[str], cwd: Path = ROOT) -> list[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=LONG_S, check=True)
    assert done.stderr == ""
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def bash(scripts: dict[str, Path], *line: str, cwd: Path = ROOT) -> list[str]:
    return asked(["bash", "--norc", "-c", _PRESS_TAB, "bash", str(scripts["bash"]), *line], cwd)


def test_bash_completes_commands_options_and_verbs(scripts: dict[str, Path]) -> None:
    assert bash(scripts, "rawpush", "we") == ["webhooks"]
    assert set(bash(scripts, "rawpush", "")) >= {one.prog.split()[-1] for one, _ in subcommands(command_line())}
    assert bash(scripts, "rawpush", "webhooks", "rep") == ["replay"]
    assert bash(scripts, "rawpush", "listen", "--for") == ["--forward", "--format"]
    assert bash(scripts, "rawpush", "webhooks", "replay", "--dead-") == ["--dead-letter"]
    assert set(bash(scripts, "rawpush", "listen", "--format", "clou")) == {"cloudevents", "cloudevents-batch"}


def test_bash_completes_the_name_of_the_file(scripts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    assert bash(scripts, "rawpush", "serve", "-c", "con", cwd=tmp_path) == ["config.toml"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_others_can_read_theirs(scripts: dict[str, Path], shell: str) -> None:
    absent.program(shell, package=shell)
    assert asked([shell, "-n", str(scripts[shell])]) == []
    if shell == "fish":
        complete = f"source {scripts[shell]}; complete -C 'rawpush web'"
        assert [line.split("\t")[0] for line in asked([shell, "--no-config", "-c", complete])] == ["webhooks"]
    else:
        registered = f'autoload -Uz compinit && compinit -u -D; eval "$(<{scripts[shell]})"; print $_comps[rawpush]'
        assert asked([shell, "-f", "-c", registered]) == ["_shtab_rawpush"]


def test_another_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["completion", "csh"])
    assert "bash" in capsys.readouterr().err


# -- the help


def test_every_command_says_what_it_does_and_how_it_is_written() -> None:
    first = [one for one, _ in subcommands(command_line())]
    below = [one for parser in first for one, _ in subcommands(parser)]
    assert len(first) >= 11
    assert len(below) >= 9
    for parser in first + below:
        assert (parser.description or "").strip().endswith("."), parser.prog
        examples = (parser.epilog or "").splitlines()
        assert examples[0] == "examples:", parser.prog
        assert any(parser.prog in line for line in examples[1:]), parser.prog
        assert all(action.help for action in parser._actions if action.dest not in ("verb", "command")), parser.prog
