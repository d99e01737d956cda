"""Pruning by lesion: the blocks that a network misses least are taken out, one after another, for a faster one.

After each removal every block that is left is measured again. Training images choose the block; of the test images
every other one decides how far it goes, and the errors that are reported are those of the rest, which decide nothing.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.bench.paired import take_turns
from reslab.data.images import ImageSet
from reslab.data.loader import Batches
from reslab.data.spec import DataSpec
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast, evaluating
from reslab.evaluate.recalibrate import has_statistics, recalibrate
from reslab.nets import edit
from reslab.nets.cost import cost
from reslab.nets.network import Network
from reslab.probes.chain import Variant, chain_of, evaluate_variants
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.probes.seam import Sample, own
from reslab.report.words import plural
from reslab.train.optim import make_optimizer
from reslab.train.recipe import Sgd

PATIENCE = 2
"""Removals in a row that are beyond the bound before the search ends: the next can be better again."""


@dataclass(frozen=True)
class Images:
    """Which images do what."""

    choosing: Sample
    """training images: which block goes next"""
    deciding: Sample
    """how far it goes"""
    reporting: Sample
    """the errors of the curve"""
    calibrating: Sample | None = None
    """training images for BN's statistics; None leaves them as they are"""

    @classmethod
    def of(cls, train: Sample, test: Sample, *, calibrate: bool = True) -> "Images":
        """Divides the test images: every other one of each class decides, the rest report."""
        test.need(2, "pruning, where one half of the test images decides and the other reports,")
        by_class = test.labels.argsort(stable=True)

        def half(start: int) -> Sample:
            chosen = by_class[start::2].sort().values
            return replace(test, x=test.x[chosen], labels=test.labels[chosen])

        # Mixed: in a folder the classes lie one after the other, and BN's statistics of one class are others.
        return cls(train, half(0), half(1), train.mixed() if calibrate else None)


@dataclass(frozen=True)
class Curve(Result):
    """A network with ever fewer blocks; the first entry is the whole. Errors in per cent."""

    removed: Ints
    block: tuple[str, ...]
    """the one that went last, by its name in the whole network; "" for the first entry"""
    error: Floats
    """of the reporting images"""
    deciding_error: Floats
    choosing_loss: Floats
    """nats, of the training images that choose; as it was before BN's statistics were taken anew"""
    macs: Ints
    """multiply-adds of an image"""
    params: Ints
    seconds: Floats
    """of a batch, the median over rounds in which all networks took turns; NaN where not measured"""
    chosen: int
    """which entry is the result"""
    reporting_images: int
    deciding_images: int

    @property
    def speedup(self) -> Floats:
        """How many times as fast as the whole network."""
        return as_floats(self.seconds[0] / self.seconds)


@dataclass(frozen=True)
class Pruned:
    """The result: a network of its own, and how it came about."""

    net: Network
    curve: Curve
    removed: tuple[str, ...]
    """names of the blocks in the whole network"""


def candidates(net: Network) -> tuple[int, ...]:
    """Blocks that can go, counted from 0: they keep the shape, and are not the last of their stage."""
    places = [(s, b) for s, stage in enumerate(net.spec.stages) for b in range(len(stage))]
    return tuple(
        i
        for i, (link, (stage, _)) in enumerate(zip(chain_of(net).links, places, strict=True))
        if link.keeps and len(net.spec.stages[stage]) > 1
    )


def prune(
    net: nn.Module,
    images: Images,
    *,
    drop: int | None = None,
    max_error: float | None = None,
    rounds: int = 5,
    tell: Callable[[str], object] = lambda text: None,
) -> Pruned:
    """Takes blocks out, the least missed first, and measures what is left.

    A block is taken out whole, with what follows its addition. The next to go is the one without which the mean
    cross-entropy of the choosing images is least; then BN's statistics are taken anew.

    Args:
        net: the network, which is left as it is.
        images: which images do what.
        drop: how many blocks, 0 for a network that is to be fine-tuned as it is; or
        max_error: how many percentage points the error of the deciding images may rise.
        rounds: of timing, in which all networks take turns; 0 measures no time.
        tell: told of each removal, in words.

    Raises:
        InputError: not one of ``drop`` and ``max_error``, or more blocks than can go.
    """
    whole = own(net, "pruning")
    able = len(candidates(whole))
    # A stage keeps one block at least, and those that change the shape stay.
    most = sum(_most(whole, stage) for stage in range(len(whole.spec.stages)))
    if (drop is None) == (max_error is None):
        raise InputError("pruning takes a number of blocks to drop or a bound for the error; give one of the two")
    if drop is not None and not 0 <= drop <= most:
        raise InputError(
            f"'{whole.spec.name}' has {able} blocks that keep the shape, of which {most} can go together, got {drop}; "
            f"give a number from 0 to {most}"
        )
    if max_error is not None and (most == 0 or not 0 <= max_error <= 100):
        what = "has no block that can go" if most == 0 else f"takes a bound of 0 to 100 points, got {max_error:g}"
        raise InputError(f"pruning: '{whole.spec.name}' {what}")
    nets, names, losses, decided = _taken_out(whole, images, most if drop is None else drop, max_error, tell)
    deciding = as_floats(decided)
    chosen = len(nets) - 1
    if max_error is not None:
        chosen = int(np.nonzero(deciding <= deciding[0] + max_error)[0][-1])
    seconds = latency(nets, images.reporting, rounds) if rounds else as_floats([np.nan] * len(nets))
    costs = [cost(each.spec, _size(images.reporting)) for each in nets]
    curve = Curve(
        removed=as_ints(range(len(nets))),
        block=("", *names),
        error=as_floats([_error(each, images.reporting) for each in nets]),
        deciding_error=deciding,
        choosing_loss=as_floats(losses),
        macs=as_ints([each.macs for each in costs]),
        params=as_ints([each.params for each in costs]),
        seconds=seconds,
        chosen=chosen,
        reporting_images=len(images.reporting),
        deciding_images=len(images.deciding),
    )
    return Pruned(nets[chosen] if chosen else deepcopy(whole), curve, tuple(names[:chosen]))


def _most(net: Network, stage: int) -> int:
    """Blocks of a stage that can go together."""
    name = f"layer{stage + 1}."
    keeping = sum(link.keeps for link in chain_of(net).links if link.name.startswith(name))
    return min(keeping, len(net.spec.stages[stage]) - 1)


def _size(sample: Sample) -> tuple[int, int] | None:
    return (sample.x.shape[2], sample.x.shape[3]) if sample.x.dim() == 4 else None


def _taken_out(
    whole: Network, images: Images, most: int, max_error: float | None, tell: Callable[[str], object]
) -> tuple[list[Network], list[str], list[float], list[float]]:
    """The networks, from the whole on; the names of what went; the loss of the choosing images, the error of the
    deciding ones."""
    labels = list(whole.named_blocks)
    nets: list[Network] = [whole]
    names: list[str] = []
    losses = [float(evaluate_variants(whole, images.choosing, [_all(whole, None)]).loss[0])]
    errors = [_error(whole, images.deciding)]
    beyond = 0
    while len(names) < most and beyond < PATIENCE:
        now = nets[-1]
        able = candidates(now)
        found = evaluate_variants(now, images.choosing, [_all(now, i) for i in able])
        best = int(np.where(np.isnan(found.loss), np.inf, found.loss).argmin())
        gone = able[best]
        smaller = _as_found(edit.without(now, list(now.named_blocks)[gone]), whole, len(names) + 1)
        if images.calibrating is not None and has_statistics(smaller):
            sample = images.calibrating
            recalibrate(smaller, sample, device=sample.x.device, precision=sample.precision)
        nets.append(smaller)
        names.append(labels.pop(gone))
        losses.append(float(found.loss[best]))
        errors.append(_error(smaller, images.deciding))
        if max_error is not None:
            beyond = beyond + 1 if errors[-1] > errors[0] + max_error else 0
        tell(
            f"{plural(len(names), 'block')} removed, the last one {names[-1]}: error {errors[-1]:.2f} % (with all "
            f"blocks {errors[0]:.2f} %)"
        )
    return nets, names, losses, errors


def _all(net: Network, without: int | None) -> Variant:
    return tuple((i, "whole") for i in range(len(net.blocks)) if i != without)


def _as_found(net: Network, whole: Network, count: int) -> Network:
    """Names the pruned network, and gives it the kernels and the memory layout of the whole one."""
    net.spec = net.spec.model_copy(update={"name": f"{whole.spec.name} without {count} block{'s' * (count > 1)}"})
    net.fuse(any(getattr(module, "fused", False) for module in whole.modules()))
    filters = [parameter for parameter in whole.parameters() if parameter.dim() == 4 and parameter.shape[2] > 1]
    if filters and all(each.is_contiguous(memory_format=torch.channels_last) for each in filters):
        net.to(memory_format=torch.channels_last)
    return net


@torch.no_grad()
def _error(net: Network, sample: Sample) -> float:
    """Per cent."""
    return float(evaluate_variants(net, sample, [_all(net, None)]).error[0])


@torch.no_grad()
def latency(nets: list[Network], sample: Sample, rounds: int) -> Floats:
    """Median seconds of a forward pass of one batch for each network; they take turns, so that drifts hit all."""
    x = sample.x[: sample.batch]

    def work(net: Network) -> Callable[[], Tensor]:
        def once() -> Tensor:
            with autocast(x.device, sample.precision):
                return net(x)  # type: ignore[no-any-return]

        return once

    works: Mapping[str, Callable[[], Tensor]] = {str(i): work(net) for i, net in enumerate(nets)}
    with ExitStack() as all_of_them:
        for net in nets:
            all_of_them.enter_context(evaluating(net))
        found = take_turns(works, rounds=rounds, turn=0.1, device=x.device)
    return as_floats([np.median(found[name]) for name in works])


def finetune(
    net: Network,
    images: ImageSet,
    data: DataSpec,
    normalizer: Normalizer,
    *,
    iterations: int,
    batch: int = 128,
    lr: float = 0.01,
    seed: int = 0,
    precision: str = "fp32",
    tell: Callable[[int, float], object] = lambda iteration, loss: None,
) -> None:
    """Trains a network on for a little, in place: SGD with momentum 0.9, the rate falling linearly to nothing.

    Args:
        net: the network; its mode is left as it was.
        images: to train on, uint8.
        data: says how they are augmented.
        normalizer: from uint8 to the network's input.
        iterations: mini-batches.
        batch: images of each.
        lr: of the first iteration.
        seed: of order and augmentation.
        precision: "fp32" or "bf16".
        tell: told of each iteration and its loss.
    """
    if iterations < 1 or lr <= 0:
        raise InputError(f"fine-tuning takes 1 iteration or more at a rate above 0, got {iterations} at {lr:g}")
    device = next(net.parameters()).device
    batches = Batches(images, data, normalizer, batch=min(batch, len(images)), seed=seed, device=device)
    optimizer = make_optimizer(net, Sgd(lr=lr))
    before = [(module, module.training) for module in net.modules()]
    net.train()
    try:
        for iteration in range(iterations):
            optimizer.set_lr(lr * (1 - iteration / iterations))
            x, labels = batches(iteration)
            with autocast(device, precision):
                loss = F.cross_entropy(net(x).float(), labels)
            loss.backward()
            if not bool(torch.isfinite(loss)):
                raise InputError(
                    f"fine-tuning came to a loss of {float(loss)} at iteration {iteration}; lower the rate"
                )
            optimizer.step()
            tell(iteration + 1, float(loss.detach()))
    finally:
        for module, training in before:
            module.training = training
