"""What every tracker promises; a subclass gives the factory."""

from __future__ import annotations

from collections.abc import Set

from gateway.core.roster import Diff, Member
from gateway.ports import Occupancy, Tracker

ADA = Member("ada", b'{"name":"Ada"}')
BOB = Member("bob")


class TrackerSuite:
    """Give `make` in a subclass; `settle` waits until all that was asked is answered."""

    def make(self) -> Tracker:
        raise NotImplementedError

    async def settle(self) -> None:
        """A tracker that answers at once has nothing to wait for."""

    async def enter(self, tracker: Tracker, channel: str, socket_id: str, member: Member | None = None, most: int = 100) -> Diff:
        diffs: list[Diff] = []
        tracker.enter("1001", channel, socket_id, member, most, diffs.append)
        await self.settle()
        assert len(diffs) == 1, "exactly one answer to each call"
        return diffs[0]

    async def leave(self, tracker: Tracker, channel: str, socket_id: str) -> Diff:
        diffs: list[Diff] = []
        tracker.leave("1001", channel, socket_id, diffs.append)
        await self.settle()
        assert len(diffs) == 1, "exactly one answer to each call"
        return diffs[0]

    async def test_the_first_occupies_and_the_last_vacates(self) -> None:
        tracker = self.make()
        assert (await self.enter(tracker, "c", "1.1")).occupied
        second = await self.enter(tracker, "c", "1.2")
        assert (second.occupied, second.subscribers) == (False, 2)
        assert not (await self.leave(tracker, "c", "1.1")).vacated
        last = await self.leave(tracker, "c", "1.2")
        assert (last.vacated, last.subscribers) == (True, 0)
        assert (await self.enter(tracker, "c", "1.3")).occupied

    async def test_members_are_users_not_connections(self) -> None:
        tracker = self.make()
        first = await self.enter(tracker, "presence-c", "1.1", ADA)
        assert first.member_added == ADA
        assert first.members is not None
        assert list(first.members) == ["ada"]
        assert (await self.enter(tracker, "presence-c", "1.2", ADA)).member_added is None
        assert (await self.enter(tracker, "presence-c", "1.3", BOB)).member_added == BOB
        assert (await self.leave(tracker, "presence-c", "1.1")).member_removed is None
        assert (await self.leave(tracker, "presence-c", "1.2")).member_removed == ADA
        assert await tracker.members("1001", "presence-c") == [BOB]
        assert await tracker.occupancy("1001", "presence-c") == Occupancy(1, 1)

    async def test_a_full_channel_refuses_new_users_only(self) -> None:
        tracker = self.make()
        await self.enter(tracker, "presence-c", "1.1", ADA, most=1)
        assert (await self.enter(tracker, "presence-c", "1.2", BOB, most=1)).refused
        assert not (await self.enter(tracker, "presence-c", "1.3", ADA, most=1)).refused
        assert await tracker.occupancy("1001", "presence-c") == Occupancy(2, 1)

    async def test_leaving_what_one_is_not_in_changes_nothing(self) -> None:
        tracker = self.make()
        await self.enter(tracker, "c", "1.1")
        diff = await self.leave(tracker, "c", "9.9")
        assert (diff.vacated, diff.subscribers) == (False, 1)

    async def test_questions(self) -> None:
        tracker = self.make()
        assert await tracker.channels("1001") == {}
        await self.enter(tracker, "orders", "1.1")
        await self.enter(tracker, "presence-c", "1.1", ADA)
        assert await tracker.channels("1001") == {"orders": Occupancy(1), "presence-c": Occupancy(1, 1)}
        assert await tracker.channels("1001", "presence-") == {"presence-c": Occupancy(1, 1)}
        assert await tracker.channels("2002") == {}, "apps do not see each other"
        assert await tracker.occupancy("1001", "nobody") == Occupancy(0)
        assert await tracker.occupancy("1001", "presence-nobody") == Occupancy(0, 0)
        assert await tracker.members("1001", "presence-nobody") == []

    async def test_who_is_there_is_asked_in_order_with_the_changes(self) -> None:
        tracker = self.make()
        answers: list[Set[str]] = []
        asked = ["#server-to-user-a", "#server-to-user-b", "orders"]
        tracker.occupied("1001", asked, answers.append)
        tracker.enter("1001", "#server-to-user-a", "1.1", None, 1, lambda diff: None)
        tracker.enter("1001", "orders", "1.1", None, 1, lambda diff: None)
        tracker.occupied("1001", asked, answers.append)
        tracker.leave("1001", "#server-to-user-a", "1.1", lambda diff: None)
        tracker.occupied("1001", asked, answers.append)
        tracker.occupied("2002", asked, answers.append)
        await self.settle()
        assert answers == [set(), {"#server-to-user-a", "orders"}, {"orders"}, set()]

    async def test_the_gateways_own_channels_are_counted_and_not_listed(self) -> None:
        tracker = self.make()
        assert (await self.enter(tracker, "#server-to-user-a", "1.1")).occupied
        assert not (await self.enter(tracker, "#server-to-user-a", "1.2")).occupied
        assert await tracker.channels("1001") == {}
        assert await tracker.channels("1001", "#") == {}
        assert await tracker.occupancy("1001", "#server-to-user-a") == Occupancy(2)
        assert not (await self.leave(tracker, "#server-to-user-a", "1.2")).vacated
        assert (await self.leave(tracker, "#server-to-user-a", "1.1")).vacated
