"""Whatever events and deliveries hold, the file has it as it was given."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.delivery import Delivery
from gateway.core.lifecycle import LifecycleEvent
from gateway.core.trace import Trace
from gateway.outbox.column import of_deliveries, of_events, parts, size_of
from gateway.outbox.query import COLUMNS, INBOX, SCHEMA, SCHEMA_2, SCHEMA_3, WRITE

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_ID = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
#: of the catalogue and the configuration: never empty, and without U+0000
_NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
_STAMP = st.integers(0, 10**15 - 1)
_EVENT = st.builds(
    LifecycleEvent,
    _ID,
    _NAME,
    _NAME,
    _STAMP,
    _TEXT,
    st.dictionaries(_TEXT, _TEXT, max_size=3),
    st.none() | _TEXT,
    st.none() | _TEXT,
    st.none() | st.builds(Trace, _TEXT, _TEXT),
)


def _written(events: Sequence[LifecycleEvent], caused: dict[str, list[int]], placed: dict[int, Delivery]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for script in (SCHEMA, SCHEMA_2, SCHEMA_3, INBOX):
        connection.executescript(script)
    parameters = dict.fromkeys(COLUMNS) | of_events(7, events, caused) | of_deliveries([*placed], [*placed.values()])
    connection.execute(WRITE, parameters)
    return connection


@given(st.lists(_EVENT, max_size=5, unique_by=lambda event: event.id), st.data())
def test_events_are_kept_as_they_are(events: list[LifecycleEvent], data: st.DataObject) -> None:
    caused = {event.id: data.draw(st.sampled_from([[1], [1, 22]])) for event in events if data.draw(st.booleans())}
    rows = _written(events, caused, {}).execute("SELECT * FROM event ORDER BY no").fetchall()
    assert [row[:5] for row in rows] == [(no, one.id, one.app_id, one.kind, one.at_ms) for no, one in enumerate(events, 7)]
    assert [row[6] for row in rows] == [f"{caused[one.id]}".replace(" ", "") if one.id in caused else None for one in events]
    for row, one in zip(rows, events, strict=True):
        told = [one.subject, one.channel, one.name, one.data]
        assert orjson.loads(row[5]) == (told if one.trace is None else [*told, [*one.trace]])


@given(st.dictionaries(st.integers(0, 2**62), st.tuples(_ID, _NAME, _STAMP, st.binary(min_size=1, max_size=30)), max_size=5))
def test_deliveries_are_kept_as_they_are(given: dict[int, tuple[str, str, int, bytes]]) -> None:
    placed = {key: Delivery("1/e", 1, 0, *one) for key, one in given.items()}
    rows = _written([], {}, placed).execute("SELECT key, event_id, kind, at_ms, envelope FROM delivery ORDER BY key").fetchall()
    assert rows == [(key, *given[key]) for key in sorted(given)]


@pytest.mark.parametrize("at_ms", [-1, 10**16])
def test_a_number_that_does_not_fit_is_refused_and_moves_no_other(at_ms: int) -> None:
    event = LifecycleEvent("evt_1", "message.published", "1", at_ms, "1/channel/c", {})
    with pytest.raises(ValueError, match="too long"):
        of_events(1, [event], {})


@given(st.lists(st.tuples(_NAME, st.binary(min_size=1, max_size=20)), max_size=5))
def test_parts_are_found_by_their_names(named: list[tuple[str, bytes]]) -> None:
    rows, whole = parts(named)
    statement = "SELECT value ->> 0, substr(?2, value ->> 1, value ->> 2) FROM json_each(?1)"
    assert sqlite3.connect(":memory:").execute(statement, (rows, whole)).fetchall() == named


def test_the_size_is_that_of_texts_and_bytes() -> None:
    assert size_of({"first_event": 7, "events": "[0]", "entries": b"12345"}) == 8
