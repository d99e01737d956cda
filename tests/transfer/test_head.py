"""The head is at its optimum, and its penalty is chosen by images left out."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from reslab.errors import InputError
from reslab.transfer.head import Embeddings, Head, HeadKind, Labels, fitted_head


def clouds(n: int, classes: int, *, width: int = 12, apart: float = 2.0, seed: int = 0) -> tuple[Embeddings, Labels]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(99).normal(0, apart, (classes, width))
    return (centres[labels] + rng.normal(0, 1, (n, width))).astype(np.float32), labels.astype(np.int64)


def accuracy(head: Head, x: Embeddings, labels: Labels) -> float:
    return float((head.logits(x).argmax(1) == labels).mean())


@pytest.mark.parametrize("kind", ["linear", "bn-linear"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_gradient_vanishes_at_the_head(classes: int, kind: HeadKind) -> None:
    x, labels = clouds(210, classes, apart=0.7)
    penalty = 0.1
    head = fitted_head(x, labels, classes, kind=kind, penalties=(penalty,))
    wrong = softmax(head.logits(x), axis=1) - np.eye(classes)[labels]
    # The penalty is on the weights before the scaling is folded in: W' = W / scale.
    scale = np.full(x.shape[1], 1 / np.sqrt((x.astype(float) ** 2).mean())) if kind == "linear" else 1 / x.std(0)
    mean = 0 if kind == "linear" else x.mean(0)
    own = head.weight / scale
    # Of two classes one function has many weights; scikit-learn penalises their difference.
    pull = penalty * own * (2 if classes == 2 else 1)
    slope = wrong.T @ ((x - mean) * scale) / len(x) + pull
    assert np.abs(slope).max() < 2e-3
    assert np.abs(wrong.mean(0)).max() < 2e-3  # the biases are not penalised


def test_few_images_are_not_learnt_by_heart() -> None:
    x, labels = clouds(30, 3, width=200, apart=0.1)
    test, wanted = clouds(600, 3, width=200, apart=0.1, seed=1)
    chosen = fitted_head(x, labels, 3)
    least = fitted_head(x, labels, 3, penalties=(1e-6,))
    loss = [-log_softmax(h.logits(test), axis=1)[np.arange(600), wanted].mean() for h in (chosen, least)]
    assert loss[0] < loss[1]
    assert chosen.penalty == min(chosen.losses, key=lambda each: each[1])[0]


def test_balanced_classes_count_the_same() -> None:
    x, labels = clouds(400, 2, apart=0.3)
    keep = (labels == 0) | (np.arange(400) % 20 == 1)
    test, wanted = clouds(2000, 2, apart=0.3, seed=2)
    rare = wanted == 1
    plain = fitted_head(x[keep], labels[keep], 2)
    balanced = fitted_head(x[keep], labels[keep], 2, balanced=True)
    assert accuracy(balanced, test[rare], wanted[rare]) > accuracy(plain, test[rare], wanted[rare])


def test_a_class_without_images_is_never_chosen() -> None:
    x, labels = clouds(60, 2)
    head = fitted_head(x, labels * 2, 4)
    assert head.weight.shape == (4, 12)
    assert set(head.logits(x).argmax(1)) == {0, 2}


def test_constant_embeddings_and_one_image_a_class() -> None:
    x, labels = clouds(3, 3)
    x[:, 4] = 5
    head = fitted_head(x, labels, 3)
    assert np.isfinite(head.weight).all()
    assert accuracy(head, x, labels) == 1
    x, labels = clouds(41, 3)
    labels[-1] = 3  # one class of a single image among larger ones
    assert np.isfinite(fitted_head(x, labels, 4).losses).all()


def test_it_does_not_depend_on_the_order_or_the_scale_of_the_images() -> None:
    x, labels = clouds(90, 3, apart=0.5)
    order = np.random.default_rng(0).permutation(90)
    one = fitted_head(x, labels, 3, penalties=(0.01,))
    other = fitted_head(x[order], labels[order], 3, penalties=(0.01,))
    large = fitted_head(1000 * x, labels, 3, penalties=(0.01,))
    assert np.allclose(one.logits(x), other.logits(x), atol=2e-2)
    assert np.allclose(one.logits(x), large.logits(1000 * x), atol=2e-2)


def test_bad_input() -> None:
    x, labels = clouds(10, 2)
    with pytest.raises(InputError, match="two classes or more, got 1"):
        fitted_head(x, labels * 0, 2)
    x[3, 3] = np.nan
    with pytest.raises(InputError, match="1 of 10 embeddings"):
        fitted_head(x, labels, 2)
