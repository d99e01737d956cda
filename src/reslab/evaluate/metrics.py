"""Errors of a network on a set of images."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reslab.data.loader import Eval


@dataclass(frozen=True)
class Result:
    """An evaluation. Errors in per cent; ``loss`` is the mean cross-entropy in nats."""

    top1_error: float
    top5_error: float
    loss: float
    n_images: int
    protocol: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context that a forward pass runs in: bf16 where the recipe says so, otherwise nothing."""
    # Each weight is used once, so a cache of converted weights saves nothing, and a CUDA graph must not hold one.
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


@torch.no_grad()
def evaluate(net: nn.Module, images: Eval, *, precision: str = "fp32") -> Result:
    """Evaluates each image once, as it is (the CIFAR test of He 2015, section 4.2).

    Args:
        net: images (N, C, H, W) -> logits (N, classes). The mode of each of its modules is left as it was found.
        images: the images and labels, normalised as the network expects.
        precision: "bf16" or "fp32".
    """
    device = images.labels.device
    wrong1 = torch.zeros((), dtype=torch.int64, device=device)
    wrong5 = torch.zeros_like(wrong1)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    # Module by module: a part that is frozen in evaluation mode must not wake up.
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        for x, labels in images:
            with autocast(device, precision):
                logits = net(x)
            logits = logits.float()
            loss += F.cross_entropy(logits, labels, reduction="sum").double()
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices
            hit = best == labels[:, None]
            wrong1 += (~hit[:, 0]).sum()
            wrong5 += (~hit.any(1)).sum()
    finally:
        for module in training:
            module.training = True
    n = len(images)
    return Result(100 * int(wrong1) / n, 100 * int(wrong5) / n, float(loss) / n, n, "one-crop")
