"""Parts of a data set: of whole classes, without damaged images, one picture on one side."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab.errors import InputError
from reslab.transfer.divide import divide
from reslab.transfer.look import Look


def made(
    labels: list[int], *, tests: list[bool] | None = None, twins: tuple[tuple[int, ...], ...] = (),
    damaged: tuple[int, ...] = (),
) -> Look:  # fmt: skip
    n = len(labels)
    return Look(
        root=Path("/photos"),
        classes=tuple(f"class {i}" for i in range(max(labels) + 1)),
        labels=np.array(labels),
        splits=np.array([False] * n if tests is None else tests),
        names=tuple(f"/photos/{i}.jpg" for i in range(n)),
        sizes=np.full((n, 2), 32, np.int32),
        modes=("RGB",) * n,
        turned=np.zeros(n, bool),
        damaged=dict.fromkeys(damaged, "damaged"),
        twins=twins,
    )


@given(
    counts=st.lists(st.integers(6, 30), min_size=2, max_size=4),
    pairs=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=4),
    own=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_laws(counts: list[int], pairs: list[tuple[int, int]], own: bool) -> None:
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    groups: dict[int, int] = {}
    for a, b in pairs:
        first, second = sorted((a % len(labels), b % len(labels)))
        if first != second and first not in groups and second not in groups:
            groups |= {first: first, second: first}
    twins = tuple(
        tuple(sorted(i for i, leader in groups.items() if leader == one)) for one in sorted(set(groups.values()))
    )
    tests = [own and i % 5 == 0 for i in range(len(labels))]
    looked = made(labels, tests=tests, twins=twins, damaged=(1,))
    try:
        parts = divide(looked)
    except InputError:  # all of a class is of pictures that are tested on
        assert twins
        return
    every = [set(part.tolist()) for part in (parts.train, parts.validation, parts.test, parts.left_out)]
    assert set().union(*every) == set(range(len(labels))) - {1}
    assert sum(map(len, every)) == len(labels) - 1
    assert parts.held_out is not own
    for group in twins:
        sides = {i for i, part in enumerate(every[:3]) if part & set(group)}
        assert len(sides) <= 1
    if own:
        assert every[2] == {i for i, test in enumerate(tests) if test and i != 1}
    if not twins:
        for label, n in enumerate(counts):
            whole = n - (label == labels[1])
            held = sum(labels[i] == label for i in every[2])
            assert own or held == max(1, round(0.2 * whole))
            chosen = sum(labels[i] == label for i in every[1])
            rest = sum(labels[i] == label for i in every[0]) + chosen
            assert chosen == max(1, round(0.2 * rest))


def test_a_twin_of_a_test_image_is_left_out() -> None:
    labels = [0] * 10 + [1] * 10
    looked = made(labels, tests=[i % 5 == 0 for i in range(20)], twins=((2, 5), (11, 12)))
    parts = divide(looked)
    assert parts.left_out.tolist() == [2]
    assert 5 in parts.test
    assert {11, 12} <= set(parts.train.tolist()) or {11, 12} <= set(parts.validation.tolist())


def test_another_image_more_leaves_the_others_where_they_were() -> None:
    before = divide(made([0] * 20 + [1] * 20), validation=0.0)
    after = divide(made([0] * 20 + [1] * 20 + [0]), validation=0.0)
    assert len(set(before.test.tolist()) - set(after.test.tolist())) <= 1


def test_what_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="an image to train on in each class, found none in 'class 1'"):
        divide(made([0, 0, 0, 1], damaged=(3,)))
    with pytest.raises(InputError, match="found one picture a class"):
        divide(made([0, 1]))


def test_three_images_are_enough() -> None:
    parts = divide(made([0, 0, 1]))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (2, 0, 1)
