"""Errors of a network on a set of images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.data.loader import Eval
from reslab.data.photographs import PhotographEval
from reslab.evaluate.protocols import PROTOCOLS, TestTime


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


def _mirrored(net: nn.Module, x: Tensor) -> Tensor:
    both: Tensor = net(x).float() + net(x.flip(3)).float()
    return both / 2


def logits_of(net: nn.Module, x: Tensor, test_time: TestTime) -> Tensor:
    """Logits (N, classes) in fp32 of images (N, C, H, W), averaged over what is seen of each."""
    if test_time == "none":
        return net(x).float()  # type: ignore[no-any-return]
    if test_time == "flip":
        return _mirrored(net, x)
    height, width = x.shape[2:]
    wide = F.pad(x, (1, 1, 1, 1), mode="reflect")
    up, down = wide[:, :, :height, :width], wide[:, :, 2:, 2:]
    shifted = [_mirrored(net, part.contiguous(memory_format=torch.channels_last)) for part in (up, down)]
    return _mirrored(net, x) / 2 + (shifted[0] + shifted[1]) / 4


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards the mode of each module is what it was."""
    # Module by module: a part that is frozen in evaluation mode must not wake up.
    training = [module for module in net.modules() if module.training]
    net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def evaluate(
    net: nn.Module,
    images: Eval | PhotographEval,
    *,
    precision: str = "fp32",
    test_time: TestTime = "none",
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Result:
    """Evaluates each image once, as it is (the CIFAR test of He 2015, section 4.2), unless ``test_time`` says more.

    Args:
        net: images (N, C, H, W) -> logits (N, classes). The mode of each of its modules is left as it was found.
        images: the images and labels, normalised as the network expects.
        precision: "bf16" or "fp32".
        test_time: whether mirrored and shifted images are seen too.
        total: from the sums of these images to those over the processes that share the images out.
    """
    device = images.labels.device
    wrong1 = torch.zeros((), dtype=torch.int64, device=device)
    wrong5 = torch.zeros_like(wrong1)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    count = 0
    with evaluating(net):
        for x, labels in images:
            with autocast(device, precision):
                logits = logits_of(net, x, test_time)
            count += len(labels)
            loss += F.cross_entropy(logits, labels, reduction="sum").double()
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices
            hit = best == labels[:, None]
            wrong1 += (~hit[:, 0]).sum()
            wrong5 += (~hit.any(1)).sum()
    sums = total(torch.stack([wrong1.double(), wrong5.double(), loss, loss.new_tensor(count)]))
    first, fifth, nats, n = sums.tolist()
    return Result(100 * first / n, 100 * fifth / n, nats / n, int(n), PROTOCOLS[test_time])
