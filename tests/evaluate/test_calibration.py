"""Temperatures and reliability, held against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab.errors import InputError
from reslab.evaluate.calibration import HOTTEST, fitted_temperature, reliability, scaled
from reslab.evaluate.figures import Labels, Logs, calibration_error, predicted


def drawn(n: int, classes: int, seed: int) -> tuple[Logs, Labels]:
    """Logits, and labels drawn with the probabilities that they say: calibrated by construction."""
    rng = np.random.default_rng(seed)
    logs = rng.normal(0, 2, (n, classes)).astype(np.float32)
    shares = np.exp(scaled(logs, 1).astype(np.float64))
    labels = (shares.cumsum(1) > rng.random((n, 1))).argmax(1)
    return logs, labels.astype(np.int64)


@pytest.mark.parametrize("wrong", [0.25, 1.0, 3.0])
def test_the_temperature_that_spoilt_the_scores_is_found(wrong: float) -> None:
    logs, labels = drawn(20_000, 5, seed=0)
    assert fitted_temperature((logs * wrong).astype(np.float32), labels) == pytest.approx(wrong, rel=0.05)


def test_two_classes_have_a_closed_form() -> None:
    # Score margin 1 for all, 75 % right: the best temperature makes sigmoid(1/T) = 0.75, T = 1 / ln 3.
    logs = np.tile(np.array([[1.0, 0.0]], np.float32), (8, 1))
    labels = np.array([0, 0, 0, 1] * 2)
    assert fitted_temperature(logs, labels) == pytest.approx(1 / math.log(3), rel=1e-4)


def test_all_wrong_is_bounded() -> None:
    logs = np.array([[3.0, 0.0], [0.0, 3.0]], np.float32)
    assert fitted_temperature(logs, np.array([1, 0])) == pytest.approx(HOTTEST, rel=1e-3)


@given(st.integers(0, 1000), st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_a_temperature_changes_no_prediction_and_sums_to_one(seed: int, temperature: float) -> None:
    logs, _ = drawn(50, 4, seed)
    out = scaled(logs, temperature)
    assert np.array_equal(predicted(out), predicted(logs))
    assert np.allclose(np.exp(out).sum(1), 1, atol=1e-5)
    again = scaled(scaled(logs, 1), temperature)
    assert np.allclose(out, again, atol=1e-4)


@given(st.integers(0, 1000), st.integers(1, 20))
@settings(max_examples=20, deadline=None)
def test_the_diagram_comes_to_the_calibration_error(seed: int, bins: int) -> None:
    logs, labels = drawn(80, 3, seed)
    logs = scaled(logs, 0.7)
    found = reliability(logs, labels, bins)
    assert sum(each.n_images for each in found) == 80
    assert all(each.low < each.confidence <= each.high + 1e-6 for each in found)
    assert all(each.interval[0] <= each.accuracy <= each.interval[1] for each in found)
    gap = sum(each.n_images * abs(each.accuracy - each.confidence) for each in found) / 80
    confidence = np.exp(logs.max(1).astype(np.float64))
    assert gap == pytest.approx(calibration_error(confidence, predicted(logs) == labels, bins), abs=1e-9)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="got none"):
        fitted_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    with pytest.raises(InputError, match="not numbers"):
        fitted_temperature(np.array([[np.nan, 0]], np.float32), np.array([0]))
