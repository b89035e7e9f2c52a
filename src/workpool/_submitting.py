"""The bounded queue, as who submits sees it: handing an item over, waiting for room, taking it back.

The rules at the top of `_queue` hold here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from workpool._clock import Steps, Wake
from workpool._core.lane import OVERFLOW, REASONS, Lane
from workpool._future import ItemFuture, Place
from workpool._interpreter import GIL
from workpool._state import Dropped, Waiter, section
from workpool._waking import WakingQueue
from workpool._worker import Entry
from workpool.errors import QueueFull, Shed

__all__ = ["SubmittingQueue"]

T = TypeVar("T")

# Loading a member of an enum may be a call, on 3.11.
QUEUED: Final = Place.QUEUED
TAKEN: Final = Place.TAKEN
WAITING: Final = Place.WAITING
BESIDE: Final = Place.BESIDE
WITHDRAWN: Final = Place.WITHDRAWN


def _wake_nobody(_: None) -> None:
    """Whoever has the slot does not wait for it."""


class SubmittingQueue(WakingQueue[T]):
    """Handing an item over."""

    __slots__ = ()

    def offer(self, item: T, future: ItemFuture[Any] | None) -> bool:
        """Accept the item if there is room for it: True. False if not, which is not counted as a refusal yet.

        Raises `PoolNotStarted` or `PoolStopped`.
        """
        now = self._now  # a local: calling `self._now()` looks it up anew each time on 3.11
        lane, more = self._plain, None
        if lane is None:
            lane = self._only or self._ranked(item, future)
            if self.carry is not None:
                more = self.carry(item)
        entry = (item, now(), future, more)
        if GIL and (self.waking or not self.resting):  # from here on no call but the last
            push = lane.push
            accepted = lane.accepted
            if accepted < lane.limit:
                lane.accepted = accepted + 1
                push(entry)
                return True
            if self._accepting:
                return False
        try_acquire, release = self.try_acquire, self.release
        try:  # the section is written out, here and in `takes`: without the GIL all items come this way
            if not try_acquire():
                self.contend()
            if self.resting and not self.waking:
                self._rouse(coming=True)
            push = lane.push
            accepted = lane.accepted
            if accepted < lane.limit:
                lane.accepted = accepted + 1
                push(entry)
                release()
                return True
            if not self._accepting:
                self._refuse()
            release()
        except BaseException:
            try:
                release()
            except RuntimeError:
                pass
            raise
        return False

    def _ranked(self, item: T, future: ItemFuture[Any] | None) -> Lane[Entry[T]]:
        """The one of several lanes that an item is for, and that its future is taken back from."""
        rank: Any = self._rank
        lane = self._numbered[rank(item)]
        if future is not None:
            future.lane = lane
        return lane

    @section
    def enter(self, entry: Entry[T], waiter: Waiter) -> bool:
        """Accept the entry into the slot that is kept for `waiter`, or a free one; else line it up: False.

        Raises what `offer` does. Whoever gets an exception here, or comes no more, calls `forsake`.
        """
        self._rouse(coming=True)
        lane = waiter.lane
        lane.waiters.pop(waiter, None)
        push = lane.push
        if not self._accepting:  # from here on no call, else a handler that closes wakes everybody but this waiter
            self._refuse()
        if waiter.granted:
            waiter.granted = False
            lane.limit += 1
        if entered := lane.accepted < lane.limit:
            lane.accepted += 1
            push(entry)
        else:
            lane.waiters[waiter] = None
        return entered

    def entering(self, item: T, future: ItemFuture[Any] | None, timeout: float | None, wake: Wake) -> Steps[None]:
        """Accept the item as soon as there is room, within `timeout` seconds (None: for ever).

        Raises what `offer` does, and `QueueFull` when the time is up. Whatever it raises, also into its wait,
        means that the item was not accepted.
        """
        self.insist_outside()
        lane = self._only or self._ranked(item, future)
        more = None if self.carry is None else self.carry(item)
        waiter = Waiter(lane, wake)
        until = None if timeout is None else self._now() + timeout
        done: Callable[[], object] | None = None
        try:
            while not self.enter((item, self._now(), future, more), waiter):
                left = None if until is None else until - self._now()
                if left is not None and left <= 0:
                    self.refuse(lane.size)
                if left is None and done is None:
                    done = self.nest(lambda: waiter.granted or not self._accepting, None)
                yield left
                if self.keys is not None and self.carry is not None:
                    more = self.carry(item)  # its line may have been dropped meanwhile
        except BaseException:
            try:
                self.forsake(waiter)
            except BaseException:  # Ctrl-C: a slot would be kept for ever for somebody who comes no more
                self.forsake(waiter)
                raise
            raise
        finally:
            if done is not None:
                done()
        self.attend()

    def nest(self, is_over: Callable[[], bool], future: ItemFuture[Any] | None) -> Callable[[], object] | None:
        """Whoever calls this is about to wait. (None of those is a worker here.)"""

    def press(self, item: T, future: ItemFuture[Any] | None) -> QueueFull | None:
        """Accept an item that found no room in the place of the oldest, if that is the rule: None. Else count it as
        refused, and give what is to be raised: each frame that an exception passes costs 0.1 µs. Or raise that."""
        lane = self._only or self._ranked(item, future)
        if not lane.drops:
            if GIL and self._accepting:  # a step without a call; an overload is no time to spend three on a refusal
                self.ledger.refused_full += 1
                return QueueFull(self.name, lane.size, self.retry_after)
            self.refuse(lane.size)
        context = None if self.carry is None else self.carry(item)
        slot = Waiter(lane, _wake_nobody)
        try:
            self._press((item, self._now(), future, context), slot)
        except BaseException:
            self.forsake(slot)
            raise
        finally:
            self.tell_dropped()
        self.attend()
        return None

    @section
    def _press(self, entry: Entry[T], slot: Waiter) -> None:
        """Accept the entry into a free slot, or that of the oldest, which is `slot` until then: nobody else's."""
        self._rouse(coming=True)
        lane: Lane[Entry[T]] = slot.lane
        while not slot.granted:
            self._note_dropping()
            self._free(slot)
        push = lane.push
        if not self._accepting:  # from here on no call but the last
            self._refuse()
        slot.granted = False
        lane.limit += 1
        lane.accepted += 1
        push(entry)

    def _free(self, slot: Waiter) -> None:
        """Keep a slot: a free one, or that of the oldest entry, which is shed. Or rid the lane of a dead entry."""
        lane: Lane[Entry[T]] = slot.lane
        waiting = lane.waiting
        drop = waiting.popleft
        if lane.accepted < lane.limit:  # from here on no call but the last
            lane.limit -= 1
            slot.granted = True
            return
        if not (waiting and self._accepting):  # all slots may be kept for those who wait
            self._refuse(lane.size)
        if self._dropping is not None:  # a handler's, which is to be noted first
            return
        oldest = waiting[0]
        future = oldest[2]
        if future is not None and future.place is WITHDRAWN:
            lane.dead -= 1
        else:
            if future is not None:
                future.place = TAKEN
            self._dropping = oldest
            self.ledger.shed[OVERFLOW] += 1
            slot.granted = True
        drop()
        if self.has_rules:
            self._release(oldest)

    def _note_dropping(self) -> None:
        """Keep the last entry that was dropped, so that the next can be."""
        last = self._dropping
        if last is None:
            return
        made, dropped = Dropped(last), self._dropped
        if self._dropping is last:  # no handler did the same in the line before; from here on no call but the append
            if not (dropped and dropped[-1].entry is last):  # else an interrupt came after the append
                dropped.append(made)
            if self._dropping is last:
                self._dropping = None

    @section
    def _claim_dropped(self, me: object) -> Dropped[T] | None:
        """The first that nobody tells of."""
        self._note_dropping()
        for dropped in self._dropped:
            if dropped.teller is None:
                dropped.teller = me
                return dropped
        return None

    @section
    def _disclaim_dropped(self, me: object) -> None:
        for dropped in self._dropped:
            if dropped.teller is me:
                dropped.teller = None

    @section
    def _told(self, dropped: Dropped[T]) -> None:
        self._dropped = [other for other in self._dropped if other is not dropped]

    def tell_dropped(self) -> None:
        """Tell whoever wants to know that entries were dropped to make room. To be called outside the lock.

        What somebody was interrupted at is told of by whoever comes here next, which the stop does. So is what was
        dropped by a handler that interrupted a section: who is told may be anybody, and is not to run under the lock.
        """
        if self.is_inside():
            return
        me = object()
        try:
            while (dropped := self._claim_dropped(me)) is not None:
                self.tell_shed(dropped.entry[0], REASONS[OVERFLOW])
                self._tell_future(dropped.entry, OVERFLOW)
                self._told(dropped)
        except BaseException:
            self._disclaim_dropped(me)
            raise

    def _tell_future(self, entry: Entry[T], why: int) -> None:
        future = entry[2]
        if future is not None and not future.done():
            future.set_exception(Shed(self.name, REASONS[why], self._now() - entry[1]))

    @section
    def forsake(self, waiter: Waiter) -> None:
        """`waiter` comes no more: a slot that is kept for it goes to the next."""
        lane = waiter.lane
        if waiter.granted:
            waiter.granted = False
            lane.limit += 1
        elif waiter in lane.waiters:
            del lane.waiters[waiter]
        self._grant(lane)

    @section
    def withdraw(self, future: ItemFuture[Any]) -> bool:
        """Take a queued item back, for its future's `cancel`, if it is still queued. May be called again.

        False if a worker has it.
        """
        lane = self._only or future.lane
        if lane is None:
            return True
        if future.place is WAITING and self.handed_back is None:
            future.place = WITHDRAWN
            self.ledger.waiting -= 1
            self.ledger.cancelled += 1
        elif future.place is BESIDE and self.handed_back is None:
            future.place = WITHDRAWN
            self._beside -= 1
            lane.limit += 1
            self.ledger.cancelled += 1
        elif future.place is QUEUED and not lane.handed_back:
            future.place = WITHDRAWN
            if not self.foreign:  # else it is queued in the parent process, and nothing is here
                lane.dead += 1
                lane.limit += 1
                self.ledger.cancelled += 1
        if future.aside is not None:
            self._forget_aside(future)
        self._grant(lane)
        self._sweep(lane)
        self._announce()
        return future.place is not TAKEN

    def _forget_aside(self, future: ItemFuture[Any]) -> None:
        """See to what was taken back while it was in no lane. May be called again. (All are in lanes here.)"""
