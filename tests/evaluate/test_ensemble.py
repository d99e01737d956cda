"""Ensembles against the mean written out, and the best subsets against all of them."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab.errors import InputError
from reslab.evaluate import ensemble
from reslab.evaluate.ensemble import averaged, best_subsets, check_together
from reslab.evaluate.figures import figures
from reslab.evaluate.predictions import Predictions

from .sample import predictions

NAMES = ("a.npz", "b.npz", "c.npz")

CHECKED = settings(max_examples=60, deadline=None, derandomize=True)


@CHECKED
@given(st.integers(1, 5), st.integers(2, 8), st.integers(0, 1000))
def test_the_mean_of_softmax_scores(count: int, classes: int, seed: int) -> None:
    members = [predictions(5, classes, seed + i).logs for i in range(count)]
    mean = np.mean([np.exp(logs.astype(np.float64)) for logs in members], axis=0)
    found = averaged(members)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.exp(found.astype(np.float64)), mean, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(1), 1, rtol=1e-5)


def test_one_member_is_itself_and_members_are_left_alone() -> None:
    one, other = predictions(seed=1), predictions(seed=2)
    before = one.logs.copy()
    np.testing.assert_array_equal(averaged([one.logs]), before)
    averaged([one.logs, other.logs])
    np.testing.assert_array_equal(one.logs, before)


def test_a_score_that_is_0_for_one_is_half_of_the_others() -> None:
    sure = np.array([[0.0, -np.inf]], np.float32)
    half = np.log(np.array([[0.5, 0.5]], np.float32))
    np.testing.assert_allclose(np.exp(averaged([sure, half])), [[0.75, 0.25]], rtol=1e-6)
    np.testing.assert_array_equal(averaged([sure, sure]), sure)


@pytest.mark.parametrize("at_a_time", [1, 7, 10**6])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_best_subsets_of_all(count: int, at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "AT_A_TIME", at_a_time)
    members = [predictions(40, 7, seed) for seed in range(count)]
    found = best_subsets(members)
    assert [len(each.members) for each in found] == list(range(1, count + 1))
    for each in found:
        tried = []
        for chosen in combinations(range(count), len(each.members)):
            result = figures(averaged([members[i].logs for i in chosen]), members[0].labels)
            tried.append((result.top1_error, result.top5_error, chosen))
        assert (each.top1_error, each.top5_error, each.members) == min(tried)


def test_of_equal_members_the_first_are_taken() -> None:
    same = predictions(seed=3)
    found = best_subsets([same, same, same])
    assert [each.members for each in found] == [(0,), (0, 1), (0, 1, 2)]


def test_more_members_than_can_be_tried() -> None:
    with pytest.raises(InputError, match="tries all subsets of up to 16 members, got 17"):
        best_subsets([predictions()] * 17)


def refusal(*members: Predictions) -> str:
    with pytest.raises(InputError) as caught:
        check_together(members, NAMES[: len(members)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_members_that_go_together() -> None:
    check_together([predictions(), predictions(seed=1), predictions(seed=2)], NAMES)
    unnamed = predictions(outputs=(None, "class 1", None))
    check_together([unnamed, predictions()], NAMES[:2])


def test_members_that_do_not() -> None:
    base = predictions()
    said = refusal(base, predictions(seed=1), predictions(data_fingerprint="7" * 16, data="val"))
    assert said.startswith("c.npz is of other images (val, test: 6, 7777777777777777) than a.npz (digits, test: 6, 2")
    assert "is of other images" in refusal(base, predictions(n=5))
    assert "b.npz has 4 classes, a.npz 3" in refusal(base, predictions(classes=4))
    swapped = refusal(base, predictions(outputs=("class 0", "class 2", "class 1")))
    assert "are in another order than those of a.npz: output 1 is 'class 2' there and 'class 1' here" in swapped
    assert "left out different images" in refusal(base, predictions(left_out=("x.jpg (damaged)",)))
    labels = (base.labels + (np.arange(6) == 4)) % 3
    other = Predictions(base.logs, labels, base.about)
    assert f"right output of image 4: {labels[4]} and {base.labels[4]}" in refusal(base, other)
