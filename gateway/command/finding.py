"""What a check of a deployment finds: judged here by plain functions, from what was seen elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.command import show

State = Literal["ok", "warning", "failed"]

#: Open files: below the first a gateway soon refuses connections; below the second it is a toy. Shells grant 1024 by default.
_NO_FILES, _FEW_FILES = 1_024, 4_096

#: Free bytes: below this SQLite may fail any moment.
_NO_SPACE = 64 * 1024**2

#: Seconds two clocks may differ: signed requests are refused beyond 600 s, webhooks by their libraries beyond 300 s.
_CLOCK_S, _WRONG_CLOCK_S = 5.0, 300.0

#: Days before a certificate's end at which it should have been renewed: what ACME clients aim at is thirty.
_RENEW_DAYS = 14.0

#: File systems over a network, where SQLite's locks and its shared memory cannot be relied upon.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "fuse.sshfs", "fuse.glusterfs", "glusterfs")

#: what helps where a webhook came to its end at this stage
_STAGES = {
    "refused": "[delivery] forbids this address (allow_private, refuse_networks, allow_networks)",
    "dns": "correct the host in the endpoint's url, or the name server of the gateway's machine",
    "connect": "start the receiver, or let the gateway's machine through to it",
    "tls": "renew the receiver's certificate, and have it send its whole chain",
    "timeout": "have the receiver answer first and work afterwards, or raise the endpoint's timeout",
}
_STATUSES = {
    401: "the receiver holds another secret than the endpoint",
    403: "the receiver, or what stands in front of it, lets the gateway not in",
    404: "correct the path of the endpoint's url",
    405: "the receiver must take POST",
    410: "the receiver wants no webhooks any more; take the endpoint out of the file",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, how it ended, what was seen, and what helps where it did not end well."""

    check: str
    state: State
    found: str
    remedy: str = ""

    def answer(self) -> dict[str, str]:
        """Return it for programs."""
        told = {"check": self.check, "state": self.state, "found": self.found}
        return {**told, "remedy": self.remedy} if self.remedy else told


def lines(findings: Iterable[Finding]) -> Iterable[str]:
    """Yield a line for each finding, and one with the remedy where there is one."""
    for one in findings:
        yield f"{one.state:8} {show.whole_text(one.check):22} {show.whole_text(one.found)}"
        if one.remedy:
            yield f"{'':8} {'':22} -> {show.whole_text(one.remedy)}"


def _size(count: int) -> str:
    """Return a number of bytes roughly, as people say it."""
    return f"{count / 1024**3:.1f} GB" if count >= 1024**3 else f"{count / 1024**2:.0f} MB"


def open_files(limit: int | None, whose: str) -> Finding:
    """Judge how many files a process may open; None: any number."""
    if limit is None or limit >= _FEW_FILES:
        return Finding("open files", "ok", f"{whose} may have {'any number' if limit is None else f'{limit:,}'}")
    state: State = "failed" if limit < _NO_FILES else "warning"
    found = f"{whose} may have {limit:,}, and every connection takes one"
    return Finding("open files", state, found, "raise the hard limit: LimitNOFILE= of the service, or ulimit -Hn")


def space(free: int, used: int, limit: int, where: str) -> Finding:
    """Judge the free bytes where the outbox lives, which holds `used` and may grow to `limit`."""
    remedy = "make room, or lower [outbox] max_size"
    if free < _NO_SPACE:
        return Finding("free space", "failed", f"{_size(free)} in {where}", remedy)
    if free + used < limit:
        found = f"{_size(free)} in {where}, and the outbox may grow to {_size(limit)}"
        return Finding("free space", "warning", found, remedy)
    return Finding("free space", "ok", f"{_size(free)} in {where}")


def file_system(kind: str, where: str) -> Finding:
    """Judge the type of the file system that the outbox lives on."""
    if kind in _REMOTE:
        remedy = "[server] state_dir must be on a disk of this machine"
        return Finding("file system", "failed", f"{where} is on {kind}, over a network, where SQLite may break", remedy)
    return Finding("file system", "ok", f"{where} is on {kind or 'a type that is not known'}")


def kind_of_mount(mounts: str, path: str) -> str:
    """Return the type of the file system that holds an absolute path, empty if unknown; `mounts` is /proc/self/mountinfo."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, types = before.split(" "), after.split(" ")
        if len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ")
        # of two mounts at one point the later one lies on top
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= best:
            best, kind = len(point), types[0]
    return kind


def clock(difference_s: float, where: str) -> Finding:
    """Judge by how many seconds the Date header of an answer is ahead of this clock."""
    found = f"{where} is {abs(difference_s):.0f} s {'ahead of' if difference_s > 0 else 'behind'} this machine"
    remedy = "have both keep time by NTP: signatures are refused when they look old"
    if abs(difference_s) >= _WRONG_CLOCK_S:
        return Finding("clock", "failed", found, remedy)
    if abs(difference_s) >= _CLOCK_S:
        return Finding("clock", "warning", found, remedy)
    return Finding("clock", "ok", f"{where} and this machine agree")


def certificate(days: float, where: str) -> Finding:
    """Judge for how many days a certificate is still valid."""
    if days < _RENEW_DAYS:
        return Finding("certificate", "warning", f"of {where} expires in {days:.0f} days", "see why it has not been renewed")
    return Finding("certificate", "ok", f"of {where} is trusted, and valid for {days:.0f} days")


def webhook(name: str, answer: Mapping[str, Any]) -> Finding:
    """Judge what an endpoint said to a test."""
    check, stage, status = f"webhook {name}", answer["stage"], answer.get("status")
    found = f"answered {show.came_back(answer)}" if status is not None else f"{stage}: {show.came_back(answer)}"
    if answer["ok"]:
        return Finding(check, "ok", found)
    if status is None:
        return Finding(check, "failed", found, _STAGES.get(stage, "see the receiver's log"))
    redirect = "give the address it leads to as the endpoint's url: redirects are not followed" if 300 <= status < 400 else ""
    return Finding(check, "failed", found, _STATUSES.get(status) or redirect or "see the receiver's log")
