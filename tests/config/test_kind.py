"""One value: what is taken, what is refused and in which words, and how it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import kind as kinds
from gateway.config.kind import Kind, Wrong, printable, shown_duration, shown_size, shown_url

DURATION = kinds.duration(0, 365 * 86_400)
SIZE = kinds.size(0, 1024**4)


def refusal(kind: Kind, raw: object, environ: dict[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(Wrong) as caught:
        kind.read(raw, environ or {})
    return list(caught.value.found)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (DURATION, "250ms", 0.25),
        (DURATION, "1.5s", 1.5),
        (DURATION, "5m", 300.0),
        (DURATION, "72h", 259_200.0),
        (DURATION, "2d", 172_800.0),
        (DURATION, "0s", 0.0),
        (SIZE, "10KB", 10_240),
        (SIZE, "1.5MB", 1_572_864),
        (SIZE, "2GB", 2 * 1024**3),
        (SIZE, "7B", 7),
        (SIZE, 10_000, 10_000),
        (kinds.flag(), False, False),
        (kinds.whole(0, 5), 5, 5),
        (kinds.number(1, 100), 2, 2.0),
        (kinds.texts(), ["a", "b"], ("a", "b")),
        (kinds.durations(0, 60), ["5s", "1m"], (5.0, 60.0)),
        (kinds.networks(), ["10.0.0.0/8", "::1"], ("10.0.0.0/8", "::1/128")),
        (kinds.headers(), {"X-Tenant": "7"}, {"X-Tenant": "7"}),
    ],
)
def test_what_is_right_is_taken(kind: Kind, raw: object, value: object) -> None:
    assert kind.read(raw, {}) == value


@pytest.mark.parametrize("raw", [5, 5.0, "5", "", "s", "5 s", "-5s", "5S", "5sec", "1h30m", "infs", "٥s", True, ["5s"], None])
def test_a_duration_needs_one_number_and_a_unit(raw: object) -> None:
    assert "must be a duration with its unit" in refusal(DURATION, raw)[0][1]


@pytest.mark.parametrize("raw", ["10", "10 KB", "10kb", "10K", "-1KB", "10KiB", "", True, 1.5, []])
def test_a_size_needs_a_unit_or_is_a_number_of_bytes(raw: object) -> None:
    assert "must be a size" in refusal(SIZE, raw)[0][1]


def test_a_size_is_whole_bytes() -> None:
    assert "whole number of bytes" in refusal(SIZE, "0.3B")[0][1]


def test_ranges_are_told_as_one_writes_them() -> None:
    assert refusal(kinds.duration(1, 3600), "2h") == [("", 'must be from "1s" to "1h", not the text "2h"')]
    assert refusal(kinds.size(1024, 2048), 4096) == [("", 'must be from "1KB" to "2KB", not the whole number 4096')]
    assert refusal(kinds.whole(1, 65_535), 70_000) == [("", "must be from 1 to 65535, not 70000")]
    assert refusal(kinds.duration(1, 60, whole_seconds=True), "1.5s") == [("", 'must be whole seconds, not the text "1.5s"')]


@pytest.mark.parametrize(
    ("kind", "raw", "sentence"),
    [
        (kinds.flag(), "true", 'must be true or false (without quotes), not the text "true"'),
        (kinds.flag(), 1, "must be true or false (without quotes), not the whole number 1"),
        (kinds.whole(0, 9), "5", 'must be a whole number (without quotes), not the text "5"'),
        (kinds.whole(0, 9), 5.0, "must be a whole number (without quotes), not the number 5.0"),
        (kinds.whole(0, 9), True, "must be a whole number (without quotes), not true"),
        (kinds.number(1, 9), float("nan"), "must be from 1 to 9, not nan"),
        (kinds.number(1, 9), "2", 'must be a number (without quotes), not the text "2"'),
        (kinds.text(), ["x"], "must be a text in quotes, not a list"),
        (kinds.text(), "", 'must be a text that is not empty, not the text ""'),
        (kinds.choice("a", "b"), "c", 'must be one of "a", "b", not the text "c"'),
        (kinds.texts(), "x", 'must be a list such as ["one", "two"], not a single value in quotes'),
        (kinds.headers(), ["x"], 'must be a table such as { X-Tenant = "7" }, not a list'),
    ],
)
def test_nothing_is_coerced(kind: Kind, raw: object, sentence: str) -> None:
    assert refusal(kind, raw) == [("", sentence)]


def test_a_word_of_a_later_version_is_named_as_such() -> None:
    assert refusal(kinds.choice("event", absent=("pusher",)), "pusher")[0][1].endswith("that is not in this version")


def test_every_wrong_item_of_a_list_is_reported() -> None:
    assert [place for place, _ in refusal(kinds.texts(), ["a", 1, "b", None])] == ["[1]", "[3]"]


def test_a_network_with_host_bits_gets_a_suggestion() -> None:
    assert refusal(kinds.networks(), ["10.1.2.3/8"])[0][1].endswith('did you mean "10.0.0.0/8"?')
    assert "did you mean" not in refusal(kinds.networks(), ["localhost"])[0][1]


# -- secrets


def test_a_secret_comes_from_where_it_says(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret = kinds.secret()
    assert secret.read("as it is", {}) == "as it is"
    assert secret.read("env:HOOK", {"HOOK": "from the environment\n"}) == "from the environment\n"
    for content in (b"from a file", b"from a file\n", b"from a file\r\n"):
        file.write_bytes(content)
        assert secret.read(f"file:{file}", {}) == "from a file"
    file.write_bytes(b"two\n\n")
    assert secret.read(f"file:{file}", {}) == "two\n"


def test_a_secret_that_is_not_there_is_named_by_its_place(tmp_path: Path) -> None:
    empty, latin, large = tmp_path / "empty", tmp_path / "latin", tmp_path / "large"
    empty.write_bytes(b"\n")
    latin.write_bytes(b"caf\xe9")
    large.write_bytes(b"x" * 70_000)
    secret = kinds.secret()
    assert refusal(secret, "env:NOPE")[0][1] == "the environment variable NOPE is not set"
    assert refusal(secret, "env:E", {"E": ""})[0][1] == "the environment variable E is empty"
    assert refusal(secret, "")[0][1] == "the secret is empty"
    assert refusal(secret, f"file:{tmp_path}/none")[0][1].endswith("none cannot be read: No such file or directory")
    assert refusal(secret, f"file:{tmp_path}")[0][1].endswith("cannot be read: Is a directory")
    assert refusal(secret, "file:\0")[0][1].startswith("the file \0 cannot be read")
    assert refusal(secret, f"file:{empty}")[0][1].endswith("is empty")
    assert refusal(secret, f"file:{latin}")[0][1].endswith("is not UTF-8 text")
    assert refusal(secret, f"file:{large}")[0][1].endswith("is too large for a secret")


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (kinds.secret(), 31337),
        (kinds.secrets(), "s31337"),
        (kinds.secrets(), ["ok", 31337]),
        (kinds.headers(), {"X": 31337}),
        (kinds.headers(), "s31337"),
        (kinds.headers(), {"X": ["s31337"]}),
    ],
)
def test_no_part_of_a_secret_gets_into_a_sentence(kind: Kind, raw: object) -> None:
    assert "31337" not in str(refusal(kind, raw))


def test_secrets_are_shown_only_as_set() -> None:
    assert kinds.secret().show("s3cret") == "(set)"
    assert kinds.secrets().show(("s3cret", "older")) == "[(set), (set)]"
    assert kinds.headers().show({"X-Token": "s3cret"}) == "{ X-Token = (set) }"
    assert shown_url("https://h/p?token=s3cret") == "https://h/p?..."


def test_at_least_one_secret_is_needed() -> None:
    assert "not an empty list" in refusal(kinds.secrets(), [])[0][1]


# -- the environment's spelling


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (kinds.whole(0, 70_000), "8001", 8001),
        (kinds.flag(), "false", False),
        (SIZE, "2048", 2048),
        (SIZE, "2KB", 2048),
        (DURATION, "5s", 5.0),
        (kinds.networks(), "10.0.0.0/8, ::1/128", ("10.0.0.0/8", "::1/128")),
        (kinds.networks(), "", ()),
        (kinds.text(), "5", "5"),
    ],
)
def test_a_variable_is_read_as_the_file_would_spell_it(kind: Kind, text: str, value: object) -> None:
    assert kind.read(kind.parse(text), {}) == value


@pytest.mark.parametrize(("kind", "text"), [(kinds.whole(0, 9), "five"), (kinds.flag(), "yes"), (kinds.whole(0, 9), "5 ")])
def test_a_variable_is_not_coerced_either(kind: Kind, text: str) -> None:
    assert refusal(kind, kind.parse(text))


# -- showing


@given(st.integers(0, 10**9))
def test_a_shown_duration_reads_as_itself(milliseconds: int) -> None:
    assert round(DURATION.read(shown_duration(milliseconds / 1000), {}) * 1000) == milliseconds


@given(st.integers(0, 1024**4))
def test_a_shown_size_reads_as_itself(count: int) -> None:
    assert SIZE.read(shown_size(count), {}) == count


@given(st.text())
def test_no_printed_text_moves_a_cursor(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(printable(text, 10)) <= 10


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert printable("Zoë 🦊 日本") == "Zoë 🦊 日本"
    assert printable("a\x1b[2Jb\r\n\u202e") == "a\\x1b[2Jb\\r\\n\\u202e"
    assert printable("x" * 50, 5) == "xxxx…"


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [("hots", ["host", "port"], "host"), ("Linger", ["linger"], "linger"), ("zzz", ["host"], None)],
)
def test_the_nearest_name(word: str, known: list[str], expected: Any) -> None:
    assert kinds.nearest(word, known) == expected
