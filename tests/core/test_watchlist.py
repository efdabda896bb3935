"""Who is told of whose coming and going; the property test plays watchers against what they should know in the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.watchlist import Watchlists

LINGER_S = 3.0


def told(lists: Watchlists[str], now: float) -> list[tuple[str, bool, list[str]]]:
    """Tell all that is due, and return whom what was told."""
    found = []
    for user_id in lists.due(now):
        news = lists.tell(user_id, now)
        if news is not None:
            found.append((user_id, news[0], list(news[1].values())))
    return found


def watched(*online: str) -> Watchlists[str]:
    """Return lists on which one connection watches ada and bob, of whom some are online."""
    lists: Watchlists[str] = Watchlists()
    assert lists.watch("1.1", "one", ["ada", "bob"]) == ["ada", "bob"]
    for user_id in ("ada", "bob"):
        lists.observe(user_id, user_id in online, 0.0, LINGER_S)
    return lists


def test_the_first_state_is_no_change() -> None:
    lists = watched("ada")
    assert lists.state(["bob", "ada"]) == (["ada"], ["bob"])
    assert told(lists, 100.0) == []


def test_coming_is_told_at_once_and_going_after_the_linger() -> None:
    lists = watched()
    lists.observe("ada", True, 1.0, LINGER_S)
    assert told(lists, 1.0) == [("ada", True, ["one"])]
    lists.observe("ada", False, 2.0, LINGER_S)
    assert told(lists, 4.9) == []
    assert lists.state(["ada"]) == (["ada"], []), "a newcomer is told what the others know, and the change with them"
    assert told(lists, 5.0) == [("ada", False, ["one"])]
    assert told(lists, 100.0) == []


def test_there_is_something_to_look_at_only_while_a_change_is_to_be_told() -> None:
    lists = watched("bob")
    assert lists.next_at() is None
    lists.observe("bob", False, 1.0, LINGER_S)
    assert lists.next_at() == 1.0 + LINGER_S
    lists.observe("ada", True, 2.0, LINGER_S)
    assert lists.next_at() == 2.0
    told(lists, 1.0 + LINGER_S)
    assert lists.next_at() is None


def test_who_comes_back_in_time_has_not_gone() -> None:
    lists = watched("ada")
    for second in range(10):
        lists.observe("ada", False, float(second), LINGER_S)
        lists.observe("ada", True, second + 0.5, LINGER_S)
        assert told(lists, second + 0.9) == []
    lists.observe("ada", False, 10.0, LINGER_S)
    assert told(lists, 12.9) == [], "the linger begins anew"
    assert told(lists, 13.0) == [("ada", False, ["one"])]


def test_who_goes_before_his_coming_was_told_has_not_come() -> None:
    lists = watched()
    lists.observe("ada", True, 1.0, LINGER_S)
    lists.observe("ada", False, 1.0, LINGER_S)
    assert told(lists, 100.0) == []


def test_a_change_that_is_undone_and_done_again_before_it_is_told_waits_anew() -> None:
    lists = watched("ada")
    lists.observe("ada", False, 0.0, LINGER_S)
    assert lists.due(3.0) == ["ada"]
    lists.observe("ada", True, 3.0, LINGER_S)
    lists.observe("ada", False, 3.0, LINGER_S)
    assert lists.tell("ada", 3.0) is None
    assert told(lists, 6.0) == [("ada", False, ["one"])]


def test_however_often_somebody_flickers_the_queue_holds_him_once() -> None:
    lists = watched("ada")
    for step in range(1000):
        lists.observe("ada", step % 2 == 1, step / 1000, LINGER_S)
    assert len(lists._queue) == 1


def test_a_second_watcher_asks_for_what_is_not_known_yet_only() -> None:
    lists = watched("ada")
    assert lists.watch("1.2", "two", ["ada", "cid"]) == ["cid"]
    assert lists.watch("1.3", "three", ["cid"]) == ["cid"], "nobody has answered for cid so far"
    lists.observe("ada", False, 1.0, 0.0)
    assert told(lists, 1.0) == [("ada", False, ["one", "two"])]


def test_what_nobody_watches_is_forgotten() -> None:
    lists = watched("ada")
    lists.watch("1.2", "two", ["ada"])
    for _ in range(2):
        lists.unwatch("1.1", ["ada", "bob", "nobody"])
        assert [lists.is_watched(user_id) for user_id in ("ada", "bob")] == [True, False]
    lists.observe("ada", False, 1.0, LINGER_S)
    lists.unwatch("1.2", ["ada"])
    assert not lists.is_watched("ada")
    lists.observe("ada", True, 2.0, LINGER_S)
    assert told(lists, 100.0) == []
    lists.watch("1.2", "two", ["ada"])
    lists.observe("ada", False, 101.0, LINGER_S)
    assert lists.state(["ada"]) == ([], ["ada"]), "what was known of him before is forgotten"
    assert told(lists, 200.0) == []


users = st.sampled_from("abc")
steps = st.lists(
    st.tuples(st.just("observe"), users, st.booleans())
    | st.tuples(st.just("watch"), st.sampled_from(["1.1", "1.2"]), st.lists(users, unique=True))
    | st.tuples(st.just("unwatch"), st.sampled_from(["1.1", "1.2"]), st.just([]))
    | st.tuples(st.just("look"), st.just(""), st.just([])),
    max_size=60,
)


@given(steps, st.sampled_from([0.0, 1.5, 3.0]))
def test_in_the_end_every_watcher_knows_the_truth_and_heard_no_state_twice(
    todo: list[tuple[str, str, object]], wait: float
) -> None:
    lists: Watchlists[str] = Watchlists()
    truth = dict.fromkeys("abc", False)
    #: by connection: what it has been told of whom it watches
    known: dict[str, dict[str, bool]] = {}
    now = 0.0

    def look() -> None:
        for user_id, is_online, watchers in told(lists, now):
            assert set(watchers) == {name for name, view in known.items() if user_id in view}
            for name in watchers:
                assert known[name][user_id] != is_online
                known[name][user_id] = is_online

    for kind, who, what in todo:
        now += 0.5
        if kind == "observe":
            assert isinstance(what, bool)
            truth[who] = what
            lists.observe(who, what, now, wait)
        elif kind == "look":
            look()
        else:
            lists.unwatch(who, known.pop(who, {}))
            if kind == "watch":
                assert isinstance(what, list)
                for user_id in lists.watch(who, who, what):
                    lists.observe(user_id, truth[user_id], now, wait)
                online, offline = lists.state(what)
                known[who] = dict.fromkeys(online, True) | dict.fromkeys(offline, False)
    now += 100.0
    look()
    assert all(view[user_id] == truth[user_id] for view in known.values() for user_id in view)
    assert {user_id for user_id in "abc" if lists.is_watched(user_id)} == {one for view in known.values() for one in view}
