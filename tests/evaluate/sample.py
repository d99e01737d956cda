"""Small predictions, drawn."""

import numpy as np

from reslab.evaluate.predictions import About, Predictions
from reslab.evaluate.protocols import OneCrop


def about(classes: int = 3, **changed: object) -> About:
    names = tuple(f"class {i}" for i in range(classes))
    values: dict[str, object] = {
        "weights": "w.safetensors", "weights_fingerprint": "0" * 16, "net": "resnet20", "net_fingerprint": "1" * 16,
        "data": "digits", "split": "test", "data_fingerprint": "2" * 16, "classes": names,
        "numbers": tuple(range(classes)), "outputs": names, "protocol": OneCrop(crop=(8, 8)),
        "preprocessing": {"mean": [0.5], "std": [0.25]}, "precision": "fp32",
    }  # fmt: skip
    return About.model_validate(values | changed)


def predictions(n: int = 6, classes: int = 3, seed: int = 0, **changed: object) -> Predictions:
    """Labels do not depend on the seed, scores do."""
    logits = np.random.default_rng(seed).normal(size=(n, classes))
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = np.random.default_rng(99).integers(0, classes, n)
    return Predictions(logs.astype(np.float32), labels.astype(np.int64), about(classes, **changed))
