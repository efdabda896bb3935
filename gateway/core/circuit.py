"""When the lanes of one endpoint may send: back-off per lane, a circuit for all of them, and a gentle return.

    healthy      every lane sends; a lane that failed waits out its own delay, the others do not notice
    backing off  failures came from two lanes (or the only one) with no success in between: it is the endpoint that is
                 ill. One probe at a time, at the back-off's pace, by the lanes in turn, so that one with a request that
                 can never succeed does not stand for all the others. Or: the endpoint asked to be left alone for a while
    disabled     nothing is sent until somebody enables the endpoint

The first success makes it healthy again. What the lanes were waiting for was the endpoint's illness, so they all go on at
once, but as a slow start: one more lane at a time for each success, which doubles them with every round of answers.

The replay lane stands beside the others: it has a place of its own, so it takes none from a live lane; its failures say
nothing about the endpoint, since what is replayed has often failed before; and while the endpoint is ill it is the probe only
where no live lane has anything to send. Its successes count like any other.

Waiting here spends no attempts. Time is monotonic seconds and passed in.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from gateway.core.delivery import REPLAY_LANE
from gateway.core.retry import RetryPolicy, bound

#: While fewer lanes than this have failed, one that has not yet may be the next probe at once. Two lanes with poisoned
#: requests look like an ill endpoint; the others need not wait for the pace (minutes, perhaps) to show that it is well.
#: Costs a dead endpoint this many attempts once, one after the other, as many as the default number of lanes.
WITNESSES = 8


class Circuit:
    """Decides which lanes of one endpoint may send now.

    The caller keeps the set of lanes that have something to send, and

    1. hands it (or, while nothing waits, just the lane that woke) to `admit`, which returns those to start now;
    2. reports exactly once, for each lane admitted, how its request ended: `succeeded`, `failed`, `suspended`, or
       `released` where nothing was sent after all (then the lane was not waiting);
    3. asks again after each report, and at `next_at`.
    """

    __slots__ = (
        "_disabled",
        "_due",
        "_failing",
        "_held_until",
        "_in_flight",
        "_keeps_pace",
        "_lanes",
        "_limit",
        "_open",
        "_policy",
        "_probe",
        "_probe_at",
        "_probes_failed",
        "_turn",
        "_turns",
    )

    def __init__(self, lanes: int, policy: RetryPolicy) -> None:
        """`lanes` is the endpoint's concurrency, `policy` its retry policy: it sets the pace of the probes."""
        self._lanes = lanes
        self._policy = policy
        #: how many lanes may be under way together; below `lanes` during a slow start
        self._limit = lanes
        self._in_flight: set[int] = set()
        #: not before these times; a lane that is missing need not wait
        self._due: dict[int, float] = {}
        #: lanes that have failed since the last success of any lane
        self._failing: set[int] = set()
        self._open = False
        self._probe: int | None = None
        #: the probe was due by the pace, so its failure slows the pace down
        self._keeps_pace = False
        self._probe_at = 0.0
        self._probes_failed = 0
        self._held_until: float | None = None
        self._disabled = False
        #: when each lane was last admitted, as a running number: the probe goes to who has waited longest
        self._turn: dict[int, int] = {}
        self._turns = 0

    @property
    def state(self) -> str:
        """`healthy`, `backing off` or `disabled`. A single lane that backs off leaves the endpoint healthy."""
        if self._disabled:
            return "disabled"
        return "backing off" if self._open or self._held_until is not None else "healthy"

    # -- asking

    def admit(self, waiting: Collection[int], now: float) -> list[int]:
        """Return the lanes, of those with something to send, that may start now; they count as started."""
        if self._disabled:
            return []
        if self._held_until is not None:
            if now < self._held_until:
                return []
            self._held_until = None
        room = self._room()
        ready = []
        if room > 0:
            ready = [lane for lane in self._live(waiting) if self._free_at(lane) <= now]
            if len(ready) > room:
                ready.sort(key=lambda lane: self._turn.get(lane, 0))
                del ready[room:]
        if self._may_replay(waiting) and self._free_at(REPLAY_LANE) <= now:
            ready.append(REPLAY_LANE)
        for lane in ready:
            self._turns += 1
            self._turn[lane] = self._turns
            self._in_flight.add(lane)
            self._due.pop(lane, None)
        if self._open and ready:
            self._probe = ready[0]
            self._keeps_pace = now >= self._probe_at
        return ready

    def next_at(self, waiting: Collection[int], now: float) -> float | None:
        """Return when `admit` would let one of these lanes go if nothing is reported before; never before `now`.

        None: time alone changes nothing; only a report, `enable` or other lanes do.
        """
        if self._disabled:
            return None
        times = [self._free_at(lane) for lane in self._live(waiting)] if self._room() > 0 else []
        if self._may_replay(waiting):
            times.append(self._free_at(REPLAY_LANE))
        if not times:
            return None
        earliest = max(now, min(times))
        return earliest if self._held_until is None else max(earliest, self._held_until)

    # -- reporting

    def succeeded(self, lane: int) -> None:
        """The lane's request was delivered."""
        self._end(lane)
        self._failing.clear()
        if self._open:
            self._open = False
            self._probe = None
            self._probes_failed = 0
            self._due.clear()  # they failed for the endpoint's sake, not for their own
            self._limit = 1
        self._limit = min(self._lanes, self._limit + 1)

    def failed(self, lane: int, delay_s: float, now: float) -> None:
        """The lane's request failed; the lane waits `delay_s` at least (0 where the request was given up)."""
        was_paced = self._end(lane) and self._keeps_pace
        self._due[lane] = now + delay_s
        if lane != REPLAY_LANE:
            self._failing.add(lane)
        if was_paced or (not self._open and len(self._failing) >= min(2, self._lanes)):
            self._open = True
            self._probes_failed += 1
            # The mean of the jittered delay. The lane's own delay would be the wrong pace: it belongs to one request,
            # which may be very young, so that all lanes in turn hammer, or very old, so that none gets a probe.
            self._probe_at = now + bound(self._policy, self._probes_failed) / 2

    def suspended(self, lane: int, delay_s: float, now: float) -> None:
        """The endpoint asked, in answer to this lane, for no request before `delay_s` from now; then it gets one probe."""
        self._end(lane)
        self._open = True
        self._held_until = max(now + delay_s, -inf if self._held_until is None else self._held_until)
        self._probe_at = self._held_until
        self._probes_failed = 0  # it is alive and names its pace itself

    def released(self, lane: int) -> None:
        """The lane was admitted and sent nothing."""
        self._end(lane)

    # -- commanding

    def hold(self, lane: int, until: float) -> None:
        """Let the lane wait until then: a retry planned in a former life of this process."""
        self._due[lane] = until

    def disable(self) -> None:
        """Let nothing start any more; what is under way is still to be reported."""
        self._disabled = True

    def enable(self) -> None:
        """Forget all that is held against the endpoint, and begin with a slow start; harmless if it is healthy."""
        if self.state == "healthy":
            return
        self._disabled = False
        self._open = False
        self._probe = None
        self._probes_failed = 0
        self._held_until = None
        self._failing.clear()
        self._due.clear()
        self._limit = 1

    def _room(self) -> int:
        """How many lanes may start, as far as the number under way goes."""
        if self._open:
            return 1 if self._probe is None else 0
        return self._limit - len(self._in_flight) + (REPLAY_LANE in self._in_flight)

    def _live(self, waiting: Collection[int]) -> list[int]:
        return [lane for lane in waiting if lane not in self._in_flight and lane != REPLAY_LANE]

    def _may_replay(self, waiting: Collection[int]) -> bool:
        """Tell whether the replay lane waits and, but for its time, may go."""
        if REPLAY_LANE not in waiting or REPLAY_LANE in self._in_flight:
            return False
        return not self._open or (self._probe is None and not self._live(waiting))

    def _free_at(self, lane: int) -> float:
        """From when on the lane may go, if there is room."""
        at = self._due.get(lane, -inf)
        if self._open and (lane in self._failing or lane == REPLAY_LANE or len(self._failing) >= WITNESSES):
            return max(at, self._probe_at)
        return at

    def _end(self, lane: int) -> bool:
        """The lane is under way no longer; tell whether it was the probe."""
        self._in_flight.discard(lane)
        if self._probe != lane:
            return False
        self._probe = None
        return True
