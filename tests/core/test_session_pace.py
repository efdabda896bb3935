"""How often a connection may subscribe, and sign in again."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.effect import Effect, SignIn, Subscribe, Throttled, Unsubscribe
from tests.core.test_session import (
    Harness,
    error_of,
    sign_in_text,
    subscribe_text,
    subscription_error_of,
    unsubscribe_text,
    with_limits,
)

PACE = with_limits(channels_per_connection=3, subscriptions=2)


def turn(harness: Harness, channel: str = "a") -> Sequence[Effect]:
    """Subscribe and leave again; return what came of the first."""
    effects = harness.send(subscribe_text(channel))
    harness.send(unsubscribe_text(channel))
    return effects


def is_in(effects: Sequence[Effect]) -> bool:
    return isinstance(effects[0], Subscribe)


def test_all_at_once_and_then_at_the_pace() -> None:
    harness = Harness(PACE)
    for channel in ("a", "b", "c"):
        harness.join(channel)
    for channel in ("a", "b", "c"):
        harness.send(unsubscribe_text(channel))
    for channel in ("d", "e", "f"):
        harness.join(channel)
    harness.send(unsubscribe_text("d"))
    effects = harness.send(subscribe_text("private-g"))
    assert subscription_error_of(effects) == ("private-g", "LimitReached", 429)
    assert error_of(effects) == (None, "a connection may subscribe 2 times per second, and 3 times at once: try again later")
    assert effects[-1] == Throttled()
    assert list(harness.session.channels) == ["e", "f"]
    harness.now += 0.5
    harness.join("private-g")


def test_a_throttled_connection_keeps_what_it_has_and_may_leave_it() -> None:
    harness = Harness(PACE)
    harness.join("kept")
    assert [is_in(turn(harness)) for _ in range(6)] == [True] * 4 + [False] * 2
    assert harness.send(unsubscribe_text("kept")) == (Unsubscribe("kept", None),)


def test_who_never_leaves_a_channel_is_never_asked_to_wait() -> None:
    harness = Harness(with_limits(channels_per_connection=500, subscriptions=1))
    for number in range(500):
        harness.join(f"channel-{number}")


def test_a_pace_above_what_may_be_held_is_kept_to_too() -> None:
    harness = Harness(with_limits(channels_per_connection=1, subscriptions=5))
    assert [is_in(turn(harness)) for _ in range(7)] == [True] * 6 + [False]


def test_what_the_roster_refuses_counts() -> None:
    harness = Harness(PACE)
    passed = 0
    for _ in range(20):
        if is_in(harness.send(subscribe_text("presence-full", {"user_id": "u"}))):
            passed += 1
            harness.session.revoke("presence-full")
    assert passed == 4


def test_what_is_refused_otherwise_costs_nothing() -> None:
    harness = Harness(PACE)
    turn(harness)
    for _ in range(20):
        harness.send(subscribe_text("private-a", auth="nonsense"))
        harness.send(subscribe_text("no name"))
    assert [is_in(turn(harness)) for _ in range(4)] == [True] * 3 + [False]


def test_signing_in_is_free_once_and_counts_from_then_on() -> None:
    harness = Harness(PACE)
    assert [isinstance(harness.send(sign_in_text({"id": "u"}))[0], SignIn) for _ in range(4)] == [True] * 4
    effects = harness.send(sign_in_text({"id": "u", "user_info": {"name": "new"}}))
    assert error_of(effects)[1].startswith("a connection may subscribe 2 times per second")
    assert effects[-1] == Throttled()
    assert harness.session.user is not None
    assert harness.session.user.id == "u"
    assert not is_in(turn(harness))
    harness.now += 0.5
    assert isinstance(harness.send(sign_in_text({"id": "u"}))[0], SignIn)


def test_a_new_pace_takes_effect_on_a_living_connection_and_none_is_none() -> None:
    harness = Harness(PACE)
    while is_in(turn(harness)):
        pass
    harness.session.app = with_limits(channels_per_connection=3, subscriptions=4)
    assert [is_in(turn(harness)) for _ in range(5)] == [True] * 4 + [False]
    harness.session.app = with_limits(channels_per_connection=6, subscriptions=4)
    assert [is_in(turn(harness)) for _ in range(7)] == [True] * 6 + [False]
    harness.session.app = with_limits(channels_per_connection=1, subscriptions=0)
    assert all(is_in(turn(harness)) for _ in range(50))


channels = st.sampled_from(["a", "private-b", "presence-c"])
steps = st.lists(
    st.tuples(
        channels.map(lambda name: subscribe_text(name, {"user_id": "u"} if name.startswith("presence-") else None))
        | channels.map(unsubscribe_text)
        | st.just(sign_in_text({"id": "u"})),
        st.floats(0, 0.4),
    ),
    max_size=60,
)


@given(steps)
def test_whatever_comes_there_is_a_bound(steps: list[tuple[str, float]]) -> None:
    harness = Harness(with_limits(channels_per_connection=2, subscriptions=2))
    began = harness.now
    passed = 0
    for text, pause in steps:
        harness.now += pause
        passed += sum(isinstance(effect, Subscribe | SignIn) for effect in harness.send(text))
        # What he may hold, the one sign-in, as many at once, and the pace.
        assert passed <= 2 + 1 + 2 + 2 * (harness.now - began) + 0.01
