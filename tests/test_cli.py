"""The command as people run it: what it prints, how it ends, and what it never does with a broken file."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__, cli
from gateway.config import AppEntry, Config, OutboxSettings, Server, Tls
from gateway.core.app import App
from gateway.core.endpoint import Endpoint
from tests.patience import LONG_S

ROOT = Path(__file__).parent.parent

APP = """\
[[apps]]
id = "1001"
key = "demo-key"
secret = "s3cret-of-the-app"
"""
HOOK = """\
[[apps.webhooks]]
name = "backend"
url = "http://127.0.0.1:9/hooks?token=s3cret-in-url"
secrets = ["s3cret-of-the-hook", "s3cret-of-before"]
headers = { X-Token = "s3cret-in-header" }
"""


def rawpush(*arguments: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=ROOT,
        env={**os.environ, "RAWPUSH_ADMIN__PORT": "0", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=LONG_S,
    )


@contextmanager
def a_taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def a_free_port() -> int:
    with a_taken_port() as port:
        return port


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


# -- a broken file never starts anything

#: content (one more line is put in front of it, where it has no [server]) -> a part of what is said about it
BROKEN = {
    "a syntax error in the last line": (APP + "linger = ", "config.toml:6: not TOML"),
    "an unknown key at top level": ("bogus = 1\n" + APP, "config.toml:2: bogus: unknown setting"),
    "an unknown key in an app": (APP + "lingr = 1", 'config.toml:6: apps[0].lingr: unknown setting; did you mean "linger"?'),
    "an unknown key in a webhook": (
        APP + HOOK + "filter = 1",
        'config.toml:11: apps[0].webhooks[0] "backend".filter: unknown setting',
    ),
    "a text for a number": (APP + "limits = { batch = '5' }", "apps[0].limits.batch: must be a whole number (without quotes)"),
    "a text for a truth": (APP + "enabled = 'true'", "config.toml:6: apps[0].enabled: must be true or false (without quotes)"),
    "a truth for a text": (APP.replace('"demo-key"', "true"), "config.toml:4: apps[0].key: must be a text in quotes, not true"),
    "a list for a text": (APP.replace('"1001"', '["1001"]'), "config.toml:3: apps[0].id: must be a text in quotes, not a list"),
    "a text for a list": (APP + "allowed_origins = '*'", "config.toml:6: apps[0].allowed_origins: must be a list"),
    "a duration without unit": (APP + "linger = 3", "config.toml:6: apps[0].linger: must be a duration with its unit"),
    "a negative duration": (APP + "linger = '-3s'", "config.toml:6: apps[0].linger: must be a duration with its unit"),
    "an absurd duration": (APP + "linger = '9999h'", 'config.toml:6: apps[0].linger: must be from "0s" to "24h"'),
    "two apps of one id": (APP + APP.replace("demo-key", "b"), 'config.toml:7: apps[1].id: "1001" belongs to another app'),
    "two apps of one key": (APP + APP.replace("1001", "2"), 'config.toml:8: apps[1].key: "demo-key" belongs to another app'),
    "two endpoints of one name": (APP + HOOK + HOOK, 'apps[0].webhooks[1].name: "backend" belongs to another endpoint'),
    "an empty secret": (APP.replace("s3cret-of-the-app", ""), "config.toml:5: apps[0].secret: the secret is empty"),
    "an unset variable": (APP.replace("s3cret-of-the-app", "env:RP_UNSET"), "the environment variable RP_UNSET is not set"),
    "an unreadable file": (APP.replace("s3cret-of-the-app", "file:/none"), "the file /none cannot be read: No such file"),
    "a bad network": ("[server]\ntrusted_proxies = ['10.0.0.1/8']\n" + APP, 'did you mean "10.0.0.0/8"?'),
    "a certificate that is missing": (
        "[server]\ntls = { cert = '/none', key = '/none' }\n" + APP,
        "server.tls.cert: /none cannot be",
    ),
    "an app without webhooks' secrets": (
        APP + HOOK.replace("secrets", "secret"),
        'apps[0].webhooks[0] "backend": needs the setting',
    ),
    "control characters": (APP + '"\\u001b[2J\\n" = 1', 'apps[0]."\\x1b[2J\\n": unknown setting'),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_file_is_told_and_nothing_starts(file: Path, mistake: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, sentence = BROKEN[mistake]
    # The port is taken: a gateway that tried to open it would say so.
    with a_taken_port() as port:
        file.write_text(content if "[server]" in content else f"server.port = {port}\n{content}")
        done = rawpush("serve", "-c", str(file))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr
    assert "in use" not in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.endswith("nothing was started\n")
    assert cli.main(["check", "-c", str(file)]) == 1
    assert capsys.readouterr() == ("", done.stderr)


@pytest.mark.parametrize("port", ["0", "70000", "-1", "'6001'"])
def test_a_port_out_of_range(file: Path, port: str) -> None:
    file.write_text(f"[server]\nport = {port}\n{APP}")
    done = rawpush("serve", "-c", str(file))
    assert done.returncode == 1
    assert "config.toml:2: server.port: must be" in done.stderr


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(APP.encode() + b"# caf\xe9\n")
    done = rawpush("serve", "-c", str(file))
    assert done.returncode == 1
    assert "config.toml:5: column 6: the byte 0xe9 is not UTF-8" in done.stderr


def test_a_misspelt_variable(file: Path) -> None:
    file.write_text(APP)
    done = rawpush("check", "-c", str(file), environ={"RAWPUSH_SERVER__PROT": "1"})
    assert done.returncode == 1
    assert "RAWPUSH_SERVER__PROT: overrides nothing; did you mean RAWPUSH_SERVER__PORT?" in done.stderr


def test_a_file_that_is_not_there(file: Path) -> None:
    done = rawpush("serve", "-c", str(file))
    assert done.returncode == 1
    assert "cannot be read: No such file or directory" in done.stderr
    assert "rawpush dev" in done.stderr


def test_a_port_that_is_taken_is_one_sentence(file: Path, tmp_path: Path) -> None:
    with a_taken_port() as port:
        file.write_text(f'[server]\nport = {port}\nstate_dir = "{tmp_path}/state"\n{APP}[log]\nlevel = "error"\n')
        done = rawpush("serve", "-c", str(file))
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "ready" not in done.stdout


def test_a_state_directory_that_cannot_be_made_is_one_sentence(file: Path) -> None:
    file.write_text(f'[server]\nport = {a_free_port()}\nstate_dir = "/dev/null/state"\n{APP}[log]\nlevel = "error"\n')
    done = rawpush("serve", "-c", str(file))
    assert done.returncode == 1
    assert "/dev/null/state" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "ready" not in done.stdout


# -- a good file


def test_check_says_that_it_is_good(file: Path) -> None:
    file.write_text(APP + HOOK)
    done = rawpush("check", "-c", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file}: no mistakes; 1 app, 1 endpoint\n")


def test_check_shows_every_value_and_its_origin_but_no_secret(file: Path) -> None:
    file.write_text(APP + HOOK)
    done = rawpush("check", "-c", str(file), "--resolved", environ={"RAWPUSH_SERVER__PORT": "8001"})
    assert done.returncode == 0
    lines = [re.sub(" +", " ", line) for line in done.stdout.splitlines()]
    assert "server.port = 8001 # environment RAWPUSH_SERVER__PORT" in lines
    assert 'server.host = "127.0.0.1" # default' in lines
    assert 'apps[0].key = "demo-key" # config.toml:3' in lines
    assert "apps[0].secret = (set) # config.toml:4" in lines
    assert 'apps[0].webhooks[0] "backend".headers = { X-Token = (set) } # config.toml:9' in lines
    assert "s3cret" not in done.stdout


def test_check_tells_programs_the_same(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def check(content: str, *more: str) -> tuple[int, dict[str, Any]]:
        file.write_text(content)
        code = cli.main(["check", "-c", str(file), "--json", *more])
        out, err = capsys.readouterr()
        assert (out.count("\n"), err) == (1, "")
        assert "s3cret" not in out
        told: dict[str, Any] = json.loads(out)
        assert told["ok"] is (code == 0)
        return code, told

    code, told = check(APP + HOOK)
    assert (code, told["mistakes"], told["apps"], told["endpoints"]) == (0, [], 1, 1)
    assert "values" not in told
    code, told = check(APP, "--resolved")
    assert any("has no webhooks" in hint for hint in told["hints"])
    assert {"place": "apps[0].secret", "value": "(set)", "source": "config.toml:4"} in told["values"]
    code, told = check(f"{APP}bogus = 1\nclient_events = 7\n")
    assert code == 1
    assert [(one["line"], one["place"]) for one in told["mistakes"]] == [(5, "apps[0].bogus"), (6, "apps[0].client_events")]
    assert all(one["file"] == "config.toml" and one["error"] for one in told["mistakes"])
    file.unlink()
    assert cli.main(["check", "-c", str(file), "--json"]) == 1
    assert "No such file" in json.loads(capsys.readouterr().out)["mistakes"][0]["error"]


def test_serve_says_what_it_runs_and_when_it_is_ready(file: Path, tmp_path: Path) -> None:
    port = a_free_port()
    file.write_text(
        f'[server]\nport = {port}\nstate_dir = "{tmp_path}/state"\ndrain = "0s"\nshutdown_timeout = "5s"\n[admin]\nport = 0\n'
        + APP
        + HOOK
    )
    command = [sys.executable, "-m", "gateway", "serve", "-c", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as gateway:
        try:
            assert gateway.stdout is not None
            said = []
            for line in gateway.stdout:
                said.append(line.rstrip())
                if line.startswith("ready: "):
                    break
            assert said[-1].startswith(f"ready: ws://127.0.0.1:{port}/app/KEY for clients, http://127.0.0.1:{port}/apps/ID/")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=LONG_S) as answer:
                assert answer.status == 200
            gateway.send_signal(signal.SIGTERM)
            rest, log = gateway.communicate(timeout=LONG_S)
        finally:
            gateway.kill()
    assert gateway.returncode == 0
    everything = "\n".join(said) + rest + log
    assert "s3cret" not in everything
    assert "Traceback" not in everything
    assert any(line.startswith("app 1001: key demo-key, secret set, client events on, linger 3s") for line in said)
    assert any(
        line.startswith("  webhook backend -> http://127.0.0.1:9/hooks?..., 2 secrets set, format event, concurrency 8, events *")
        for line in said
    )


# -- usage


def test_version_and_help() -> None:
    assert rawpush("--version").stdout == f"rawpush {__version__}\n"
    shown = rawpush("--help")
    assert shown.returncode == 0
    assert all(command in shown.stdout for command in ("rawpush dev", "rawpush check -c", "rawpush serve -c"))
    for command in ("serve", "check", "dev"):
        assert rawpush(command, "--help").returncode == 0


@pytest.mark.parametrize("arguments", [(), ("sevre",), ("serve", "--bogus"), ("dev", "--port", "x"), ("dev", "--port", "70000")])
def test_wrong_usage_is_exit_code_two(arguments: tuple[str, ...]) -> None:
    done = rawpush(*arguments)
    assert done.returncode == 2
    assert "usage: rawpush" in done.stderr
    assert done.stdout == ""


def test_a_reader_who_leaves_early_is_no_crash(file: Path) -> None:
    file.write_text(APP)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gateway", "check", "-c", str(file), "--resolved"]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=LONG_S, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


# -- lines and hints


def endpoint(url: str, **settings: object) -> Endpoint:
    return Endpoint(app_id="1", name="a", url=url, secrets=("s3cret",), **settings)  # type: ignore[arg-type]


def hints(server: Server | None = None, mode: str = "disk", url: str = "https://x.org/") -> list[str]:
    app = AppEntry(App("1", "k", "s3cret"), (endpoint(url),))
    outbox = OutboxSettings(mode=mode)  # type: ignore[arg-type]
    return [hint for hint in cli.hints(Config(server=server or Server(), outbox=outbox, apps=(app,))) if "open files" not in hint]


def test_what_works_as_written_but_perhaps_not_as_meant_gets_a_hint() -> None:
    assert hints() == []
    assert ["TLS is left to a proxy" in hint for hint in hints(Server(host="0.0.0.0"))] == [True]
    assert hints(Server(host="0.0.0.0", tls=Tls("a", "b"))) == []
    assert ["outbox.mode is memory" in hint for hint in hints(mode="memory")] == [True]
    assert ["readable on the way" in hint for hint in hints(url="http://10.0.0.1/")] == [True]
    assert hints(url="http://[::1]/") == hints(url="http://127.0.0.1/") == []
    config = Config(apps=(AppEntry(App("1", "k", "s")),))
    assert "app 1 has no webhooks: nobody is told what happens" in list(cli.hints(config))


def test_start_up_lines_tell_what_differs_from_the_ordinary() -> None:
    app = App("1", "k", "s3cret", enabled=False, client_events=False, linger_s=0.25, allowed_origins=("x.org",))
    hook = endpoint("https://x.org/?t=s3cret", channels=("a-*",), exclude_channels=("b",), headers={"X": "s3cret\x1b"})
    lines = list(cli.start_up_lines(Config(apps=(AppEntry(app, (hook,)),)), Path("c.toml")))
    assert lines[0] == f"RawPush {__version__}, c.toml, outbox in state, synchronous normal"
    assert lines[1] == (
        "app 1: key k, secret set, client events off, linger 250ms, connections unlimited, origins x.org, DISABLED"
    )
    assert lines[2] == (
        "  webhook a -> https://x.org/?..., secret set, format event, concurrency 8, events *, channels a-* not b, headers X"
    )
    assert "s3cret" not in "".join(lines)
