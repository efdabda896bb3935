"""From (policy, attempts, age, outcome, roll) to a verdict. Times are seconds.

Whatever is not a 2xx is tried again, until the policy's age or attempts run out. Two answers are wishes of the receiver
and are heeded: 429 and 503 with a usable Retry-After hold the whole endpoint, and 410 disables it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from gateway.core.delivery import Outcome, Settlement, State

#: No lane comes back sooner than this, whatever the policy and the dice say: at most twenty attempts a second and lane.
FLOOR_S = 0.05


#: what a request is given up for that was answered 410; its endpoint is left alone from then on
GONE = "gone"

#: what is noted in the delivery log when an operator lets such an endpoint have webhooks again
ENABLED = "enabled"

#: after the answer 410 has come, a busy process may begin further requests for so long
_STILL_BEGINNING_MS = 1_000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again and when to give up."""

    initial_s: float = 1.0
    factor: float = 2.0
    max_delay_s: float = 900.0
    max_age_s: float = 86_400.0
    #: 0: no limit but age
    max_attempts: int = 0
    #: fixed delays instead of the exponential form; the last one repeats until max_age
    schedule_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    """It arrived: settle it and go on."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """The same request again, not before `delay_s` from now; only its own lane waits."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A dead letter; the lane goes on with what comes after it. `reason` is `max_age` or `max_attempts`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Suspend:
    """The same request again, and no lane of the endpoint sends anything before `delay_s` from now."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Disable:
    """The endpoint wants no more webhooks: this request is a dead letter, the others wait until somebody enables it."""

    reason: str


Verdict = Delivered | RetryAt | GiveUp | Suspend | Disable


def decide(policy: RetryPolicy, *, attempts: int, age_s: float, outcome: Outcome, roll: float) -> Verdict:
    """Return what becomes of a request after an attempt.

    `attempts` counts this one, `age_s` runs from the first one, `roll` is a fresh random number in [0, 1). No retry is
    planned for a time past `max_age_s`, so the last attempt may come well before it.
    """
    if outcome.is_success:
        return Delivered()
    if outcome.status == 410:
        return Disable(GONE)
    if policy.max_attempts and attempts >= policy.max_attempts:
        return GiveUp("max_attempts")
    wish = outcome.retry_after_s if outcome.status in (429, 503) else None
    # Not `wish <= 0`: a comparison with NaN is false either way, and NaN is no wish.
    if wish is not None and wish > 0:
        verdict: RetryAt | Suspend = Suspend(_at_least(wish, policy, roll))
    else:
        verdict = RetryAt(_jittered(policy, attempts, roll))
    return GiveUp("max_age") if age_s + verdict.delay_s > policy.max_age_s else verdict


def is_left_alone(settlements: Iterable[Settlement]) -> bool:
    """Tell, by an endpoint's latest settlements, the newest first, whether it answered 410 and was not enabled since.

    `told_by` says how many are needed. Requests that were under way when it asked to be left alone have ended after that,
    and say nothing. A request that began later is one that an operator has let it have.
    """
    began_ms = 0
    for settlement in settlements:
        outcome = settlement.outcome
        if settlement.reason == ENABLED:
            return False
        if outcome is None:
            continue  # given up without an attempt
        if settlement.reason == GONE:
            return began_ms <= settlement.at_ms + outcome.latency_ms + _STILL_BEGINNING_MS
        began_ms = max(began_ms, settlement.at_ms)
    return False


def told_by(concurrency: int) -> int:
    """Return how many of its latest settlements tell `is_left_alone`: one a lane, the replays' too, and the one that was 410."""
    return concurrency + 2


def enabled(endpoint: str, lane: int, now_ms: int) -> Settlement:
    """Return the note that the endpoint may have webhooks again, for any of its lanes: it settles nothing."""
    return Settlement(endpoint, lane, "", 0, 0, 0, 0, now_ms, now_ms, State.DUE, None, reason=ENABLED)


def bound(policy: RetryPolicy, attempts: int) -> float:
    """Return the longest delay after the given number of failed attempts (from 1): the back-off before jitter."""
    if policy.schedule_s:
        return policy.schedule_s[min(attempts, len(policy.schedule_s)) - 1]
    try:
        return min(policy.max_delay_s, policy.initial_s * policy.factor ** (attempts - 1))
    except OverflowError:  # after a thousand attempts or so a float cannot hold the power
        return policy.max_delay_s


def parse_retry_after(value: str, now_s: float) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110, section 10.2.3), None if it says nothing sensible.

    `now_s` is Unix time. A date that has passed gives 0.0.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    if not value[:1].isalpha():  # each of the three date formats begins with the day's name; the parser is more lenient
        return None
    try:
        date = parsedate_to_datetime(value)
        # The obsolete asctime format names no zone, and means UTC.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None


def _jittered(policy: RetryPolicy, attempts: int, roll: float) -> float:
    """Full jitter, but never below a quarter of the first delay: a roll near zero is no licence to hammer.

    A schedule is taken at its word: who writes down the delays wants these.
    """
    longest = bound(policy, attempts)
    if policy.schedule_s:
        return max(FLOOR_S, longest)
    return max(FLOOR_S, min(longest, policy.initial_s / 4), roll * longest)


def _at_least(wish_s: float, policy: RetryPolicy, roll: float) -> float:
    """The time asked for, capped, and up to one first delay more: jitter spreads those who were told the same time."""
    capped = min(wish_s, policy.max_delay_s)
    return max(FLOOR_S, min(policy.max_delay_s, capped + roll * policy.initial_s))
