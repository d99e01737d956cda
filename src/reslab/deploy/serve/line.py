"""How many images are let in, and which of them go to the network next. Pure: the time is an argument."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
NEWEST = 0.2
"""The weight of the newest observation in the average of the seconds an image takes."""

SURE = 0.5
"""How much of the time that an image may take is filled: the wait is an estimate, and what is let in and comes too late
has been decoded, and perhaps computed, in vain."""


class Busy(Exception):
    """There is no room, or no answer in time; ``retry_after`` seconds later there may be."""

    def __init__(self, why: str, retry_after: float) -> None:
        super().__init__(why)
        self.retry_after = max(1, math.ceil(retry_after))


@dataclass
class Admission:
    """Counts the images that are inside, from before they are decoded until they are answered.

    An image is refused when all places are taken, or when at the pace of late those before it would take longer than
    half of what it may wait: better at once than after a wait in vain.
    """

    places: int
    """images inside at a time, those being computed too"""
    inside: int = 0
    pace: float = 0.0
    """seconds an image, averaged over those answered while others waited; 0: none was yet"""
    _since: float = 0.0

    def enter(self, count: int, now: float, patience: float) -> None:
        """Takes ``count`` places. Raises `Busy` as `look` does."""
        self.look(count, patience)
        if not self.inside:
            self._since = now
        self.inside += count

    def look(self, count: int, patience: float) -> None:
        """Raises `Busy` where ``count`` places are not free, or the wait would exceed half of ``patience`` s."""
        wait = self.inside * self.pace
        if self.inside + count > self.places:
            raise Busy(f"all {self.places} places are taken", wait / 2)
        sure = SURE * patience
        if self.inside and wait + count * self.pace > sure:
            raise Busy(f"{self.inside} images are before this one, about {wait:.1f} s", wait + self.pace - sure)

    def leave(self, count: int) -> None:
        """Gives ``count`` places back."""
        self.inside -= count
        assert self.inside >= 0, "more images left than came in"

    def answered(self, count: int, now: float) -> None:
        """Notes that the network has answered ``count`` images that are still inside."""
        seconds = (now - self._since) / count
        self.pace = seconds if not self.pace else (1 - NEWEST) * self.pace + NEWEST * seconds
        self._since = now


@dataclass(frozen=True)
class Waiting(Generic[Item]):
    """An image in the line."""

    item: Item
    since: float
    """when it came"""
    until: float
    """when its answer is of no use any more"""
    gone: Callable[[], bool]
    """whether nobody waits for it any more"""


@dataclass
class Line(Generic[Item]):
    """First come, first served; a batch is what waits when the network is free, at most ``batch`` of it."""

    batch: int
    linger: float = 0.0
    """seconds that the first of a batch that is not full waits for company"""
    _waiting: deque[Waiting[Item]] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, waiting: Waiting[Item]) -> None:
        """To the end of the line."""
        self._waiting.append(waiting)

    def late(self, now: float) -> list[Waiting[Item]]:
        """Takes out those whose time is over, wherever they stand; those that nobody waits for are dropped."""
        late = [each for each in self._waiting if not each.gone() and each.until <= now]
        self._waiting = deque(each for each in self._waiting if not each.gone() and each.until > now)
        return late

    def due(self, now: float) -> float:
        """Seconds until the next batch goes: 0 now, infinity where nothing waits."""
        if not self._waiting:
            return math.inf
        if len(self._waiting) >= self.batch:
            return 0.0
        return max(0.0, self._waiting[0].since + self.linger - now)

    def take(self) -> list[Waiting[Item]]:
        """The next batch."""
        return [self._waiting.popleft() for _ in range(min(self.batch, len(self._waiting)))]
