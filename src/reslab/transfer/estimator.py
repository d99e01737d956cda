"""Images for scikit-learn: an estimator of a last layer on a network's embeddings.

It fits in seconds, which is what cross-validation and searches need; the network below stays as it is. To train all of
a network, and to cross-validate that, there is `reslab finetune --folds`.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from reslab.errors import InputError
from reslab.transfer.classifier import Classifier
from reslab.transfer.head import PENALTIES, Head, fitted_head
from reslab.weights.load import load


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier on what a network makes of images, with scikit-learn's interface.

    ``X`` is a list or array of paths, or an array of images (N, H, W[, C]); ``y`` the class of each, of any kind.
    scikit-learn's ``check_estimator`` has tables of numbers alone to check with, which are refused here.

    Example:
        >>> from sklearn.model_selection import cross_val_score
        >>> cross_val_score(reslab.ImageClassifier("reslab:resnet20-cifar10"), paths, names, cv=5)
    """

    def __init__(
        self, weights: str = "torchvision:resnet50", *, head: Literal["bn-linear", "linear"] = "bn-linear",
        penalty: float | None = None, balanced: bool = False, device: str | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        """
        Args:
            weights: of the network: a file, a run or a hub's name.
            head: whether embeddings are normalised first.
            penalty: lambda of mean cross-entropy + lambda/2 |W|^2; None: chosen by cross-validation.
            balanced: whether each class counts the same.
            device: cpu, cuda, ...
            seed: random seed of the cross-validation.
        """
        self.weights = weights
        self.head = head
        self.penalty = penalty
        self.balanced = balanced
        self.device = device
        self.seed = seed

    def fit(self, X: Any, y: Any) -> Self:
        """Embeds the images and fits the last layer.

        Raises:
            ValueError: X is no images, y no classes of them, or one class alone.
        """
        images = _images(X)
        check_classification_targets(y)
        labels = np.asarray(y)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if len(labels) != len(images):
            raise InputError(f"expected a class for each of the {len(images)} images, got {len(labels)}")
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        self.network_ = Classifier(load(self.weights), device=self.device)
        self.head_: Head = fitted_head(
            self.network_.embed(images), numbers.astype(np.int64), len(self.classes_), kind=self.head,
            balanced=self.balanced, penalties=PENALTIES if self.penalty is None else (self.penalty,), seed=self.seed,
        )  # fmt: skip
        return self

    def decision_function(self, X: Any) -> npt.NDArray[np.float32]:
        """Logits (N, classes); of two classes the difference (N,), as scikit-learn has it."""
        check_is_fitted(self, "head_")
        logits = self.head_.logits(self.network_.embed(_images(X)))
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Probabilities (N, classes)."""
        check_is_fitted(self, "head_")
        logits = self.head_.logits(self.network_.embed(_images(X))).astype(np.float64)
        scores = np.exp(logits - logits.max(1, keepdims=True))
        found: npt.NDArray[np.float64] = scores / scores.sum(1, keepdims=True)
        return found

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """The class of each image, as ``y`` had it."""
        found: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(1)]
        return found

    def __sklearn_tags__(self) -> Any:
        """Images are no table of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _images(given: Any) -> list[Any]:
    """Images as a list. Raises `InputError` for a table of numbers."""
    if isinstance(given, np.ndarray) and given.dtype.kind not in "OUS":
        if given.ndim not in (3, 4):
            raise InputError(
                f"expected images (N, H, W) or (N, H, W, C), or a list of paths, got an array of shape {given.shape}"
            )
        if given.ndim == 3:
            given = given[..., None]
        return list(given)
    images = list(np.ravel(given)) if isinstance(given, np.ndarray) else list(given)
    if not images:
        raise InputError("expected images, got none")
    return images
