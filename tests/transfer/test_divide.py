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
    labels: list[int], *, splits: list[str] | None = None, twins: tuple[tuple[int, ...], ...] = (),
    damaged: tuple[int, ...] = (),
) -> Look:  # fmt: skip
    n = len(labels)
    return Look(
        root=Path("/photos"),
        classes=tuple(f"class {i}" for i in range(max(labels) + 1)),
        labels=np.array(labels),
        splits=np.array(["train"] * n if splits is None else splits),
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
    own=st.sampled_from(["", "test", "validation and test"]),
)
@settings(max_examples=60, deadline=None)
def test_the_laws(counts: list[int], pairs: list[tuple[int, int]], own: str) -> None:
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    groups: dict[int, int] = {}
    for a, b in pairs:
        first, second = sorted((a % len(labels), b % len(labels)))
        if first != second and first not in groups and second not in groups:
            groups |= {first: first, second: first}
    twins = tuple(
        tuple(sorted(i for i, leader in groups.items() if leader == one)) for one in sorted(set(groups.values()))
    )
    splits = ["train"] * len(labels)
    if own:
        splits = ["test" if i % 5 == 0 else "train" for i in range(len(labels))]
    if "validation" in own:
        splits = ["validation" if i % 5 == 1 else split for i, split in enumerate(splits)]
    looked = made(labels, splits=splits, twins=twins, damaged=(1,))
    try:
        parts = divide(looked, validation=None if "validation" in own else 0.2)
    except InputError:  # all of a class is of pictures that are tested on
        assert twins
        return
    every = [set(part.tolist()) for part in (parts.train, parts.validation, parts.test, parts.left_out)]
    assert set().union(*every) == set(range(len(labels))) - {1}
    assert sum(map(len, every)) == len(labels) - 1
    assert parts.held_out is not bool(own)
    for group in twins:
        sides = {i for i, part in enumerate(every[:3]) if part & set(group)}
        assert len(sides) <= 1
    if own:
        assert every[2] == {i for i, split in enumerate(splits) if split == "test" and i != 1}
    if "validation" in own:
        assert every[1] == {i for i, split in enumerate(splits) if split == "validation" and i != 1} - every[3]
    elif not twins:
        for label, n in enumerate(counts):
            whole = n - (label == labels[1])
            held = sum(labels[i] == label for i in every[2])
            assert own or held == max(1, round(0.2 * whole))
            chosen = sum(labels[i] == label for i in every[1])
            rest = sum(labels[i] == label for i in every[0]) + chosen
            assert chosen == max(1, round(0.2 * rest))


def test_a_twin_of_a_test_image_is_left_out() -> None:
    labels = [0] * 10 + [1] * 10
    looked = made(labels, splits=["test" if i % 5 == 0 else "train" for i in range(20)], twins=((2, 5), (11, 12)))
    parts = divide(looked, validation=0.2)
    assert parts.left_out.tolist() == [2]
    assert 5 in parts.test
    assert {11, 12} <= set(parts.train.tolist()) or {11, 12} <= set(parts.validation.tolist())


def test_a_validation_split_of_its_own() -> None:
    labels = [0] * 10 + [1] * 10
    splits = (["train"] * 6 + ["validation"] * 2 + ["test"] * 2) * 2
    looked = made(labels, splits=splits, twins=((0, 6), (7, 18)))
    parts = divide(looked)
    assert parts.left_out.tolist() == [0, 7], "a picture stays in the last of its splits alone"
    assert parts.validation.tolist() == [6, 16, 17]
    assert parts.test.tolist() == [8, 9, 18, 19]
    with pytest.raises(InputError, match="/photos has a validation split; leave out --validation"):
        divide(looked, validation=0.1)


def test_few_images_are_all_learnt_from() -> None:
    assert not len(divide(made([0] * 99 + [1] * 99)).validation)
    assert len(divide(made([0] * 125 + [1] * 125)).validation) == 20, "a tenth of the hundred of each class"


def test_another_image_more_leaves_the_others_where_they_were() -> None:
    before = divide(made([0] * 20 + [1] * 20), validation=0.0)
    after = divide(made([0] * 20 + [1] * 20 + [0]), validation=0.0)
    assert len(set(before.test.tolist()) - set(after.test.tolist())) <= 1


def test_what_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="an image to train on in each class, found none in 'class 1'"):
        divide(made([0, 0, 0, 1], damaged=(3,)))
    with pytest.raises(InputError, match="found one image per class"):
        divide(made([0, 1]))


def test_three_images_are_enough() -> None:
    parts = divide(made([0, 0, 1]))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (2, 0, 1)
