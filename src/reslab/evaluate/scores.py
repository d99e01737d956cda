"""Softmax scores of a network for each image, by a protocol.

They are kept as logarithms: an average of probabilities that are too small for fp32 still has an order, which the
errors depend on, and a loss, which is minus the score of the right class.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reslab.data.decode.whole import Fit
from reslab.data.loader import Eval
from reslab.data.transforms import Normalizer
from reslab.data.views import FiveCrops, Resized, Sides, Views
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast, evaluating, logits_of
from reslab.evaluate.protocols import MultiScale, OneCrop, Single, TenCrop
from reslab.nets.cost import cost
from reslab.nets.network import Network, check_size
from reslab.nets.spec import AnyNet, DenseStem, NetSpec
from reslab.weights.preprocessing import Preprocessing


@dataclass(frozen=True)
class Scored:
    """What a network says to a set of images."""

    logs: Tensor
    """log of the averaged softmax scores (M, classes), fp32 on the host"""
    whole: Tensor
    """bool (N,): which of the images these are; the others could not be decoded"""


def how_shown(protocol: Single, preprocessing: Preprocessing) -> Resized:
    """What is made of each image as it is decoded."""
    match protocol:
        case OneCrop():
            return Fit(protocol.crop, protocol.resize, preprocessing.interpolation)
        case TenCrop():
            return FiveCrops(protocol.crop, protocol.resize, preprocessing.interpolation)
        case MultiScale():
            return Sides(protocol.scales, preprocessing.interpolation)


def trained_window(spec: AnyNet, crop: tuple[int, int]) -> tuple[int, int]:
    """The size of the feature map of a crop: what the network pools in training. 7x7 for ResNet-50 and 224 pixels.

    Raises `InputError` for networks whose head cannot be applied at each position.
    """
    if not isinstance(spec, NetSpec) or isinstance(spec.stem, DenseStem):
        raise InputError(
            f"multi-scale applies the head of a network at each position of its feature map, and '{spec.name}' "
            f"{'is of vectors' if isinstance(spec, NetSpec) else 'is not in our grammar'}; take --protocol ten-crop"
        )
    return cost(spec, crop).parts[-2].out_size


@torch.no_grad()
def log_scores(
    net: nn.Module,
    images: Eval | Views,
    normalizer: Normalizer,
    protocol: Single,
    *,
    device: torch.device,
    precision: str = "fp32",
    seen: Callable[[int], object] = lambda count: None,
) -> Scored:
    """log(mean(softmax(logits))) of each image, over what the protocol shows of it.

    Args:
        net: images (N, C, H, W) -> logits (N, classes). The mode of each of its modules is left as it was found.
        images: as `how_shown` says; of one crop, images in memory will do too.
        normalizer: from pixels to input, for `Views`.
        protocol: what is averaged. Test-time flips and shifts of one crop average logits, everything else softmax
            scores.
        device: where the network is.
        precision: "bf16" or "fp32".
        seen: called with how many images were worked through, each as often as it comes in a size of its own.

    Raises:
        InputError: an image cannot be decoded; the network cannot be applied to images of those sizes.
    """
    if isinstance(protocol, MultiScale):
        _check(net, protocol)
    total: Tensor | None = None
    whole = torch.zeros(len(images), dtype=torch.bool, device=device)
    with evaluating(net):
        for index, parts in _shown(images, normalizer.to(device), device):
            for x in parts:
                for input in _mirrored(x, protocol):
                    with autocast(device, precision):
                        logs = _answer(net, input, protocol)
                    if total is None:
                        total = logs.new_full((len(images), logs.shape[1]), -math.inf)
                    total[index] = torch.logaddexp(total[index], logs)
            whole[index] = True
            seen(len(index))
    if total is None:
        raise InputError("no image could be decoded, so there is nothing to evaluate")
    kept = total[whole]
    return Scored((kept - math.log(protocol.views) if protocol.views > 1 else kept).cpu(), whole.cpu())


def _check(net: nn.Module, protocol: MultiScale) -> None:
    assert isinstance(net, Network), "`trained_window` refuses the others"
    least = min(protocol.scales)
    check_size(net.spec, (least, least))


def _shown(
    images: Eval | Views, normalizer: Normalizer, device: torch.device
) -> Iterator[tuple[Tensor, Iterable[Tensor]]]:
    """Which images, and the parts of them as input (n, C, H, W)."""
    if isinstance(images, Eval):
        start = 0
        for x, labels in images:
            yield torch.arange(start, start + len(labels), device=device), (x,)
            start += len(labels)
        return
    for view in images:
        yield view.index.to(device), (normalizer(part.to(device)) for part in view.parts)


def _mirrored(x: Tensor, protocol: Single) -> Iterator[Tensor]:
    yield x
    if isinstance(protocol, TenCrop) or (isinstance(protocol, MultiScale) and protocol.flip):
        yield x.flip(3)


def _answer(net: nn.Module, x: Tensor, protocol: Single) -> Tensor:
    """Log of the softmax scores (n, classes) of inputs of one size, in fp32."""
    if not isinstance(protocol, MultiScale):
        seen_of_each = protocol.test_time if isinstance(protocol, OneCrop) else "none"
        return logits_of(net, x, seen_of_each).log_softmax(1)
    assert isinstance(net, Network)
    dense = net.dense_logits(net.feature_map(x), protocol.window).float()  # (n, classes, H, W)
    logs = dense.log_softmax(1).flatten(2)
    return logs.logsumexp(2) - math.log(logs.shape[2])
