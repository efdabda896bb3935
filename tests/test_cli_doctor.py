"""`rawpush doctor`: what is judged how, and what helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.command import doctor, finding, silence
from gateway.config import Config, OutboxSettings, Server

GB = 1024**3


@pytest.mark.parametrize(
    ("limit", "state"), [(None, "ok"), (4_096, "ok"), (4_095, "warning"), (1_024, "warning"), (1_023, "failed")]
)
def test_open_files(limit: int | None, state: str) -> None:
    assert finding.open_files(limit, "it").state == state


@pytest.mark.parametrize(
    ("free", "used", "state"), [(2 * GB, 0, "ok"), (GB, GB, "ok"), (GB, 0, "warning"), (1024**2, 2 * GB, "failed")]
)
def test_space(free: int, used: int, state: str) -> None:
    assert finding.space(free, used, 2 * GB, "/state").state == state


@pytest.mark.parametrize(
    ("difference_s", "state"), [(0.0, "ok"), (-4.9, "ok"), (5.0, "warning"), (-60.0, "warning"), (-300.0, "failed")]
)
def test_clock(difference_s: float, state: str) -> None:
    assert finding.clock(difference_s, "gw").state == state


def test_clock_says_which_is_ahead() -> None:
    assert finding.clock(60.0, "gw").found == "gw is 60 s ahead of this machine"
    assert finding.clock(-60.0, "gw").found == "gw is 60 s behind this machine"


def test_certificate() -> None:
    assert [finding.certificate(days, "gw").state for days in (14.0, 13.9)] == ["ok", "warning"]


MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
22 21 0:40 / /srv rw - nfs4 host:/export rw
23 22 8:2 / /srv/my\\040disk rw shared:1 - xfs /dev/sdb rw
24 21 0:41 / /srvice rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/a", "nfs4"),
        ("/srv/my disk/state", "xfs"),
        ("/srvice/a", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert finding.kind_of_mount(MOUNTS, path) == kind


def test_a_network_drive_is_no_place_for_an_outbox() -> None:
    assert finding.file_system("nfs4", "/srv").state == "failed"
    assert finding.file_system("ext4", "/srv").state == finding.file_system("", "/srv").state == "ok"


@pytest.mark.parametrize(
    ("answer", "state", "remedy"),
    [
        ({"ok": True, "stage": "answered", "status": 204, "latency_ms": 3.2}, "ok", ""),
        ({"ok": False, "stage": "answered", "status": 401, "latency_ms": 3.2}, "failed", "another secret"),
        ({"ok": False, "stage": "answered", "status": 301, "latency_ms": 3.2}, "failed", "redirects are not followed"),
        ({"ok": False, "stage": "answered", "status": 500, "latency_ms": 3.2}, "failed", "the receiver's log"),
        ({"ok": False, "stage": "dns", "error": "no such host", "latency_ms": 3.2}, "failed", "correct the host"),
        ({"ok": False, "stage": "refused", "error": "private", "latency_ms": 0.1}, "failed", "allow_networks"),
    ],
)
def test_webhook(answer: dict[str, Any], state: str, remedy: str) -> None:
    found = finding.webhook("1/b", answer)
    assert found.state == state
    assert remedy in found.remedy
    assert bool(found.remedy) == bool(remedy)


def test_nothing_found_can_move_the_cursor() -> None:
    for line in finding.lines([finding.Finding("a\x1b", "failed", "\x1b[2J", "\r")]):
        assert "\x1b" not in line
        assert "\r" not in line


@pytest.mark.parametrize(
    ("found", "state", "says"),
    [
        (silence.alive("gw", 120.0, 120.0), "ok", "120 s and lived on"),
        (silence.alive("gw", 30.0, 120.0), "warning", "can last 120 s"),
        (silence.ended("gw", 60.2, 120.0, None), "failed", "cut after 60 s"),
        (silence.ended("gw", 60.2, 120.0, 1001), "failed", "cut after 60 s"),
        (silence.ended("gw", 60.2, 120.0, 4200), "warning", "with 4200"),
        (silence.deaf("gw", 120.0, 120.0), "failed", "carried nothing"),
    ],
)
def test_silence(found: finding.Finding, state: str, says: str) -> None:
    assert found.state == state
    assert says in found.found
    assert bool(found.remedy) == (state != "ok")


# -- the state directory


def states(folder: Path, **outbox: Any) -> dict[str, str]:
    config = Config(server=Server(state_dir=str(folder)), outbox=OutboxSettings(max_size=1, **outbox))
    return {one.check: one.state for one in doctor.state_directory(config)}


def test_the_state_directory_need_not_be_there_and_is_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert states(folder) == {"state directory": "ok", "free space": "ok", "file system": "ok"}
    assert not (tmp_path / "a").exists()


def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    assert states(tmp_path / "state")["state directory"] == "failed"


def test_an_outbox_in_memory_is_worth_a_warning(tmp_path: Path) -> None:
    assert states(tmp_path, mode="memory") == {"state directory": "warning"}


@pytest.mark.parametrize(
    ("proxy_protocol", "trusted", "expects"),
    [
        (True, ("127.0.0.0/8",), True),
        (True, ("10.0.0.0/8", "::1"), False),
        (False, ("127.0.0.1",), False),
    ],
)
def test_who_must_begin_with_a_header_is_not_dialled(proxy_protocol: bool, trusted: tuple[str, ...], expects: bool) -> None:
    config = Config(server=Server(proxy_protocol=proxy_protocol, trusted_proxies=trusted))
    assert doctor.expects_proxy_header(config) is expects


# -- the command


def test_a_broken_file_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("bogus = 1")
    assert cli.main(["doctor", "-c", str(file), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert not answer["ok"]
    assert any("bogus: unknown setting" in one["found"] for one in answer["checks"])
    assert cli.main(["doctor", "-c", str(file)]) == 1
    assert "nothing was started" in capsys.readouterr().err


def test_silence_needs_an_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[[apps]]\nid = "1"\nkey = "k"\nsecret = "s"\n')
    assert cli.main(["doctor", "-c", str(file), "--idle"]) == 2
    assert "--url" in capsys.readouterr().err
