"""Who is let in and who goes next, by a clock that the test holds."""

import math

import pytest

from reslab.deploy.serve.line import Admission, Busy, Line, Waiting


def waiting(item: str, since: float, until: float = 100.0, gone: bool = False) -> Waiting[str]:
    return Waiting(item, since, until, lambda: gone)


def items(found: list[Waiting[str]]) -> list[str]:
    return [each.item for each in found]


def test_places_are_counted() -> None:
    door = Admission(places=3)
    door.enter(2, now=0, patience=10)
    with pytest.raises(Busy, match="all 3 places"):
        door.enter(2, now=0, patience=10)
    door.enter(1, now=0, patience=10)
    door.leave(2)
    door.enter(2, now=1, patience=10)
    assert door.inside == 3


def test_a_wait_that_would_be_too_long_is_refused_at_once() -> None:
    door = Admission(places=100)
    door.enter(10, now=0, patience=10)
    door.answered(5, now=5)  # a second each
    door.leave(5)
    assert door.pace == 1.0
    door.enter(4, now=5, patience=18)  # 5 before it, and 4
    with pytest.raises(Busy, match=r"9 images are before this one, about 9\.0 s") as refused:
        door.enter(1, now=5, patience=18)
    assert refused.value.retry_after == 1
    door.enter(1, now=5, patience=20)


def test_a_look_takes_no_place() -> None:
    door = Admission(places=1)
    door.look(1, patience=10)
    door.enter(1, now=0, patience=10)
    with pytest.raises(Busy):
        door.look(1, patience=10)
    door.leave(1)
    door.look(1, patience=10)


def test_whoever_comes_alone_is_let_in_however_slow_it_was() -> None:
    door = Admission(places=100, pace=60.0)
    door.enter(1, now=0, patience=10)


def test_the_pace_does_not_count_the_time_that_nobody_was_there() -> None:
    door = Admission(places=100)
    door.enter(1, now=0, patience=10)
    door.answered(1, now=1)
    door.leave(1)
    door.enter(1, now=1000, patience=10)
    door.answered(1, now=1001)
    assert door.pace == pytest.approx(1.0)


def test_the_pace_follows_what_is_newer() -> None:
    door = Admission(places=100)
    door.enter(20, now=0, patience=10)
    door.answered(1, now=1)
    for second in range(2, 20):
        door.answered(1, now=1 + (second - 1) * 0.1)
    assert 0.1 < door.pace < 0.12


@pytest.mark.parametrize(("wait", "expected"), [(-5, 1), (0.2, 1), (1.2, 2), (7, 7)])
def test_retry_after_is_whole_seconds(wait: float, expected: int) -> None:
    assert Busy("", wait).retry_after == expected


def test_a_batch_is_what_waits() -> None:
    line: Line[str] = Line(batch=3)
    assert line.due(now=0) == math.inf
    for name in "abcd":
        line.join(waiting(name, since=0))
    assert line.due(now=0) == 0
    assert items(line.take()) == ["a", "b", "c"]
    assert line.due(now=0) == 0
    assert items(line.take()) == ["d"]


def test_the_first_waits_for_company_but_a_full_batch_does_not() -> None:
    line: Line[str] = Line(batch=2, linger=0.5)
    line.join(waiting("a", since=1.0))
    assert line.due(now=1.2) == pytest.approx(0.3)
    line.join(waiting("b", since=1.2))
    assert line.due(now=1.2) == 0
    line.take()
    line.join(waiting("c", since=2.0))
    assert line.due(now=3.0) == 0


def test_the_late_are_told_and_the_gone_are_dropped() -> None:
    line: Line[str] = Line(batch=3)
    line.join(waiting("late", since=0, until=1))
    line.join(waiting("gone", since=0, gone=True))
    line.join(waiting("late and gone", since=0, until=1, gone=True))
    line.join(waiting("here", since=0, until=3))
    assert items(line.late(now=2)) == ["late"]
    assert items(line.take()) == ["here"]
