"""`rawpush webhooks ...`: what the dashboard does, for people at a terminal and for scripts."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from gateway.command import option, show
from gateway.command.error import Misused, Refused
from gateway.command.progress import Progress

if TYPE_CHECKING:
    from gateway.command.client import Client

DONE, FAILED = 0, 1

#: seconds until a step that was refused because the outbox is full, or the disk, is tried again, and how often
_AGAIN_S = 2.0
_AGAIN = 30

_ABOUT = """\
Ask a running gateway about the webhooks of an app, and have them sent again. The file says where it listens and what
signs the requests; --url names another address of the same gateway.
"""

_EXAMPLES = """\
  rawpush webhooks list -c config.toml
  rawpush webhooks test -c config.toml backend
  rawpush webhooks why -c config.toml evt_01hq3y8kc0v7
  rawpush webhooks request -c config.toml backend 1042
  rawpush webhooks replay -c config.toml backend --dead
"""

_REPLAY = """\
Send webhooks again, to one endpoint, in their order, beside the live ones. They keep their ids, and carry the header
X-Webhook-Replay: true. Give one of:

  --event-id ID                 one event
  --dead                        all dead letters, or those that --event, --channel, --from and --to select
  --dead-letter N [N ...]       dead letters by number (see: rawpush webhooks dead)
  --after/--until CURSOR        a piece of the ledger, between two cursors of the feed
  --from/--to TIME              the same by time: 2026-01-25T10:00:00Z, or Unix milliseconds

Ctrl-C ends it after the step under way, and says how to go on.
"""


def add_parser(commands: Any) -> None:
    """Add the command to the parser of `rawpush`."""
    parser = option.add_parser(
        commands, "webhooks", run, help="ask about webhooks, send them again", about=_ABOUT, examples=_EXAMPLES
    )
    verbs = parser.add_subparsers(dest="verb", metavar="WHAT", required=True)

    def verb(
        name: str, ask: Callable[[Client, argparse.Namespace], int], text: str, example: str, about: str = ""
    ) -> argparse.ArgumentParser:
        about, example = about or f"{text[0].upper()}{text[1:]}.", f"  rawpush webhooks {name} -c config.toml{example}\n"
        one = option.add_parser(verbs, name, run, help=text, about=about, examples=example)
        option.add_app(one)
        option.add_json(one, "print the answer as it came, one JSON object a line")
        one.set_defaults(ask=ask)
        return one

    verb("list", _list, "each endpoint: state, backlog, dead letters, last answer", "")
    named = [
        verb("test", _test, "send one webhook.test now, and show what the endpoint says", " backend"),
        verb("deliveries", _deliveries, "the delivery log of an endpoint, newest first", " backend --limit 20"),
        verb("request", _request, "what an attempt of the delivery log sent: headers and body", " backend 1042"),
        verb("dead", _dead, "the dead letters of an endpoint, oldest first", " backend --channel 'presence-*'"),
        verb("replay", _replay, "send webhooks again", " backend --dead --from 2026-01-25T10:00:00Z", _REPLAY),
        verb("enable", _enable, "let an endpoint that answered 410 have webhooks again", " backend"),
    ]
    for one in named:
        one.add_argument("name", metavar="ENDPOINT", help="its name in the file")
    _, log, request, dead, replay, _ = named
    request.add_argument(
        "number", metavar="NUMBER", nargs="?", type=option.whole(0, 10**18 - 1), help="in the delivery log; default: the newest"
    )
    log.add_argument("--before", type=int, metavar="N", help="go on from an earlier page")
    _add_limit(log)
    dead.add_argument("--after", type=int, metavar="N", help="go on from an earlier page")
    _add_limit(dead)
    for one in (dead, replay):
        one.add_argument("--event", metavar="GLOB", help='only these kinds, such as "channel.*"')
        one.add_argument("--channel", metavar="GLOB", help='only of these channels, such as "presence-*"')
        one.add_argument("--from", dest="from_", metavar="TIME", help="only what happened from then on")
        one.add_argument("--to", metavar="TIME", help="only what happened until then")
    replay.add_argument("--event-id", metavar="ID", help="one event")
    replay.add_argument("--dead", action="store_true", help="all dead letters, or those that are selected")
    replay.add_argument("--dead-letter", type=int, nargs="+", metavar="N", help="dead letters by number")
    replay.add_argument("--after", type=int, metavar="CURSOR", help="what comes after it in the feed")
    replay.add_argument("--until", type=int, metavar="CURSOR", help="and up to this one")
    replay.add_argument("--step", type=int, default=500, metavar="N", help="how many a request asks for (default: 500)")
    replay.add_argument("--resume", metavar="MARK", help="go on where an interrupted replay said it was")

    why = verb("why", _why, "what became of one event at each endpoint, or which filter left it out", " evt_01hq3y8kc0v7")
    why.add_argument("event_id", metavar="EVENT_ID", help="the id in its envelope")
    events = verb("events", _events, "the feed of events, oldest first", " --after latest --follow --event 'channel.*'")
    events.add_argument("--after", metavar="CURSOR", help='go on after this one; "latest": only what is to come')
    events.add_argument("--event", metavar="GLOB", help='only these kinds, such as "channel.*"')
    events.add_argument("--follow", action="store_true", help="wait for more, until Ctrl-C")
    _add_limit(events)
    verb("snapshot", _snapshot, "what is open now: connections, channels, members; and the cursor it is true at", " --json")


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many (default: 100)")


def run(options: argparse.Namespace) -> int:
    """Do what was asked and return the exit code; raises ConfigError, Misused and Refused."""
    # Not at the top: what it imports would slow down the commands that need no client.
    from gateway.command.client import open_client

    code: int = options.ask(open_client(options), options)
    return code


# -- what can be asked


def _list(client: Client, options: argparse.Namespace) -> int:
    return _print(client.get("webhooks/endpoints"), options, show.endpoints)


def _test(client: Client, options: argparse.Namespace) -> int:
    answer = client.post(f"{_endpoint(options)}/test", {})
    _print(answer, options, lambda told: show.tested(options.name, told))
    return DONE if answer["ok"] else FAILED


def _enable(client: Client, options: argparse.Namespace) -> int:
    answer = client.post(f"{_endpoint(options)}/enable", {})
    return _print(answer, options, lambda told: [f"{show.text(told['name'])} is {show.text(told['state'])}"])


def _deliveries(client: Client, options: argparse.Namespace) -> int:
    path = f"{_endpoint(options)}/deliveries"
    return _print(client.get(path, before=options.before, limit=options.limit), options, show.deliveries)


def _request(client: Client, options: argparse.Namespace) -> int:
    return _print(client.get(f"{_endpoint(options)}/request", number=options.number), options, show.request)


def _dead(client: Client, options: argparse.Namespace) -> int:
    path = f"{_endpoint(options)}/dead_letters"
    answer = client.get(path, after=options.after, limit=options.limit, **_selection(options))
    return _print(answer, options, show.dead_letters)


def _why(client: Client, options: argparse.Namespace) -> int:
    return _print(client.get(f"webhooks/events/{quote(options.event_id, safe='')}"), options, show.why)


def _snapshot(client: Client, options: argparse.Namespace) -> int:
    return _print(client.get("webhooks/snapshot"), options, show.snapshot)


def _events(client: Client, options: argparse.Namespace) -> int:
    after = options.after
    try:
        for answer in _pages(client, options):
            after = answer["cursor"]
    except KeyboardInterrupt:
        if after is not None:
            print(f"\ngo on with: --after {after}", file=sys.stderr, flush=True)
        return DONE
    except Refused:
        if after != options.after:
            print(f"go on with: --after {after}", file=sys.stderr, flush=True)
        raise
    if not options.json:
        _say(f"cursor {after}")
    return DONE


def _pages(client: Client, options: argparse.Namespace) -> Iterator[Any]:
    """Print and yield pages of the feed: up to the first that holds something, or the end; or one after the other for ever."""
    after = options.after
    wait = None
    while True:
        answer = client.get("webhooks/events", after=after, limit=options.limit, event=options.event, wait=wait)
        if options.json:
            _say(orjson.dumps(answer).decode())
        else:
            if wait is None and after not in (None, "latest") and int(after) < answer["forgotten"]:
                _say(f"what came before cursor {answer['forgotten']} has been forgotten")
            for one in answer["events"]:
                _say(show.event(one))
        yield answer
        # An empty page whose cursor has moved is not the end.
        is_end = after == "latest" or answer["cursor"] == int(after or 0)
        if not options.follow and (answer["events"] or is_end):
            return
        after, wait = answer["cursor"], 50 if options.follow else 0


# -- replay


def _replay(client: Client, options: argparse.Namespace) -> int:
    body = _replay_body(options)
    path = f"{_endpoint(options)}/replay"
    if not body.keys() & {"limit"}:
        answer = client.post(path, body)
        for number in answer.get("missing", ()):
            print(f"rawpush: there is no dead letter {number}", file=sys.stderr)
        return _print(answer, options, lambda told: [_replayed(told["replayed"], told["left_out"])])
    progress = Progress(sys.stderr.isatty())
    with _Interruption() as interruption:
        replayed = left_out = 0
        while True:
            try:
                answer = _step(client, path, body, interruption)
            except Refused:
                progress.end()
                _say_how_to_go_on(options, body, replayed)
                raise
            replayed += answer["replayed"]
            left_out += answer["left_out"]
            if options.json:
                _say(orjson.dumps(answer).decode())
            if answer["resume"] is None:
                break
            body["resume"] = answer["resume"]
            if interruption.came:
                progress.end()
                _say_how_to_go_on(options, body, replayed)
                return FAILED
            progress.tell(f"{replayed:,} replayed")
    progress.end()
    if not options.json:
        _say(_replayed(replayed, left_out))
    return DONE


def _step(client: Client, path: str, body: dict[str, object], interruption: _Interruption) -> Any:
    """Make one step; where the gateway says that it cannot take more now, wait and try again."""
    tries = 0
    while True:
        try:
            return client.post(path, body)
        except Refused as error:
            tries += 1
            if error.status != 503 or tries > _AGAIN or interruption.came:
                raise
            interruption.sleep(_AGAIN_S)


def _replay_body(options: argparse.Namespace) -> dict[str, object]:
    selection = _selection(options)
    limits = {"after": options.after, "until": options.until}
    asked_range = {name: value for name, value in limits.items() if value is not None}
    is_range = bool(asked_range) or (not options.dead and bool(selection.keys() & {"from", "to"}))
    ways = [options.event_id is not None, options.dead, options.dead_letter is not None, is_range]
    if sum(ways) != 1:
        raise Misused("give one of --event-id, --dead, --dead-letter and a range (--after, --until, --from, --to)")
    if options.event_id is not None or options.dead_letter is not None:
        if selection or options.resume:
            raise Misused("what is named one by one is neither selected nor resumed")
        return {"event_id": options.event_id} if options.event_id is not None else {"dead_letters": options.dead_letter}
    body: dict[str, object] = {**selection, **asked_range, "limit": options.step}
    if options.dead:
        body["dead_letters"] = "all"
    if options.resume:
        body["resume"] = options.resume
    return body


def _endpoint(options: argparse.Namespace) -> str:
    return f"webhooks/endpoints/{quote(options.name, safe='')}"


def _selection(options: argparse.Namespace) -> dict[str, object]:
    asked = {"event": options.event, "channel": options.channel, "from": options.from_, "to": options.to}
    return {name: value for name, value in asked.items() if value is not None}


def _replayed(replayed: int, left_out: int) -> str:
    said = f"{replayed:,} replayed: handed to the endpoint's replay lane"
    return f"{said}; {left_out:,} left out, which are still due or were never meant for it" if left_out else said


def _say_how_to_go_on(options: argparse.Namespace, body: dict[str, object], replayed: int) -> None:
    words = ["rawpush", "webhooks", "replay", options.name]
    words += (
        ["-c", str(options.config)] if options.key is None else ["--key", options.key, "--secret", _reference(options.secret)]
    )
    words += [word for name in ("app", "url") if getattr(options, name) for word in (f"--{name}", getattr(options, name))]
    words += ["--dead"] if options.dead else []
    words += [
        word
        for name in ("after", "until", "event", "channel", "from", "to", "resume")
        if name in body
        for word in (f"--{name}", str(body[name]))
    ]
    print(f"interrupted after {replayed:,}; go on with:\n  {shlex.join(words)}", file=sys.stderr, flush=True)


def _reference(secret: str) -> str:
    """Return where a secret stands, never the secret itself."""
    return secret if secret.startswith(("env:", "file:")) else "SECRET"


class _Interruption:
    """Ctrl-C while inside: the first one is noted, so that a step can end; a second one interrupts as ever."""

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def __enter__(self) -> _Interruption:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond an interruption."""
        until = time.monotonic() + seconds
        while not self.came and time.monotonic() < until:
            time.sleep(0.05)


# -- what is printed


def _print(answer: Any, options: argparse.Namespace, lines: Callable[[Any], Iterable[str]]) -> int:
    if options.json:
        _say(orjson.dumps(answer).decode())
    else:
        for line in lines(answer):
            _say(line)
    return DONE


def _say(line: str) -> None:
    print(line, flush=True)
