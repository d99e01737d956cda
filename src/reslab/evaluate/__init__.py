"""What a network is worth: protocols and metrics."""

from reslab.evaluate.metrics import Result, evaluate

__all__ = ["Result", "evaluate"]
