"""Each image is tested on once, by a network that saw neither it nor its twin."""

import numpy as np
import pytest

from reslab.errors import InputError
from reslab.transfer.folds import Folded, folds

from .test_divide import made


def test_the_laws() -> None:
    looked = made(
        [0] * 12 + [1] * 9 + [2] * 7,
        splits=["test" if i % 9 == 8 else "train" for i in range(28)],
        twins=((0, 3, 14), (20, 21)),
        damaged=(5,),
    )
    parts = list(folds(looked, 4, validation=0.2, seed=1))
    tested = np.sort(np.concatenate([part.test for part in parts]))
    assert tested.tolist() == [i for i in range(28) if i % 9 != 8 and i != 5]
    for part in parts:
        train, validation, test = set(part.train.tolist()), set(part.validation.tolist()), set(part.test.tolist())
        assert not train & test
        assert not validation & test
        assert not train & validation
        assert train | validation | test == set(tested.tolist())
        for twins in looked.twins:
            assert sum(bool(side & set(twins)) for side in (train, validation, test)) == 1
        assert set(looked.labels[part.train].tolist()) == {0, 1, 2}


def test_a_validation_split_is_that_of_each_fold() -> None:
    splits = (["train"] * 6 + ["validation"] * 2) * 2
    looked = made([0] * 8 + [1] * 8, splits=splits, twins=((0, 6),))
    parts = list(folds(looked, 2))
    assert [part.validation.tolist() for part in parts] == [[6, 7, 14, 15]] * 2
    assert sorted(np.concatenate([part.test for part in parts]).tolist()) == [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]


def test_more_folds_than_pictures() -> None:
    looked = made([0] * 9 + [1] * 4, twins=((9, 10),))
    with pytest.raises(InputError, match="--folds takes 2 to 3, as many as the rarest class, 'class 1', has pictures"):
        list(folds(looked, 4, validation=0.0))
    with pytest.raises(InputError, match="got 1"):
        list(folds(looked, 1, validation=0.0))


def test_mean_and_spread() -> None:
    found = Folded((80.0, 90.0, 70.0), 24, 30)
    assert found.mean == 80
    assert found.spread == 10
    assert found.interval[0] < 80 < found.interval[1]
