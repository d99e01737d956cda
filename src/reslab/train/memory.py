"""Predicts the memory of a training step, and which activations to recompute so that it fits.

The activations are measured, not calculated: two forward passes of a few images, in the mode of the run, tell what
autograd keeps of each block, as a line in the number of images. What a step takes with some of the stages
checkpointed is a sum of these. Evaluations and processes that decode photographs are not in it. The allowances for
libraries and heap were measured on a CPU; on a GPU the account is a guide, which nobody has held against one yet.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.nets.checkpointing import segment_length
from reslab.nets.cost import cost
from reslab.nets.network import Network
from reslab.train.device import Execution, resolve_precision
from reslab.train.optim import trained
from reslab.train.recipe import Muon, Recipe
from reslab.train.sharing import why_not_shared

SAMPLES = (2, 4)
"""Images of the two measurements: the least that BN takes, and twice as many. Both are less than a group of BN that is
larger; of one that is smaller, they are a group and two."""
PASSING = (4, 10)
"""Activations that come and go at a time beside those kept: gradients of branch and shortcut, in and out; with
segments that are computed again, these too (measured, as those below: benchmarks/memory_account.py)."""
LIBRARIES = 40e6
"""Bytes that the libraries' kernels and their scratch take."""
COMPILER = 200e6
"""Bytes of the compiler, which PyTorch imports to compute a segment again."""
HEAP = (0.05, 0.2)
"""Share of the activations that lies idle between blocks in use, without checkpointing and with it."""
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])(i?)B?\s*", re.IGNORECASE)


def size_of(text: str) -> int:
    """Bytes from ``4GB``, ``4G`` (10^9 each), ``500MB`` or ``4GiB`` (2^30). Raises `InputError` for anything else."""
    found = SIZE.fullmatch(text)
    size = 0
    if found is not None:
        number, unit, binary = found.groups()
        size = int(float(number) * (1024 if binary else 1000) ** (" KMGT".index(unit.upper())))
    if size < 1:
        raise InputError(f"--memory-budget takes a size such as 4GB, 500MB or 4GiB, got '{text}'")
    return size


def words(size: float) -> str:
    """Bytes to read: ``1.3 GB``, ``640 MB``."""
    if size < 999.5e3:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e9:.1f} GB" if size >= 999.5e6 else f"{size / 1e6:.0f} MB"


@dataclass(frozen=True)
class Account:
    """Bytes that a training step takes at its peak, by what they are for."""

    parameters: int
    """and the running statistics of BN, and the average of both where the recipe keeps one"""
    gradients: int
    momenta: int
    batch: int
    """a rank's share of the images, normalised"""
    activations: int
    """kept from the forward pass for the backward pass"""
    recomputation: int
    """beyond these, while a segment is computed again"""
    workspace: int
    """an allowance: gradients of activations, libraries, and what the C library's heap cannot use again"""

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True)
class Line:
    """Bytes as a line in the number of images: what is kept once (weights in bf16), and of each image."""

    once: float
    each: float

    @classmethod
    def through(cls, samples: Sequence[int], counts: Sequence[int]) -> "Line":
        """Fits a line through the bytes measured for each number of images."""
        (few, many), (less, more) = samples, counts
        each = (more - less) / (many - few)
        return cls(less - few * each, each)

    def at(self, images: int) -> float:
        """Bytes for so many images."""
        return self.once + self.each * images


@dataclass(frozen=True)
class Piece:
    """Stem, block or head: what it keeps for the backward pass, and the activation that enters it."""

    stage: int
    """counted from 1; the stem is 0, and the head comes behind the last"""
    kept: Line
    enters: Line


@dataclass(frozen=True)
class Memory:
    """Measured memory of a network and its training."""

    pieces: tuple[Piece, ...]
    """in the order of the signal"""
    parameters: int
    trained: int
    """bytes of the parameters that have gradients"""
    momenta: int
    image: int
    """bytes of one image as the network takes it"""
    macs: tuple[int, ...]
    """multiply-adds of stem, stages and head; none for other libraries' networks, which have no stages"""

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return max(0, len(self.macs) - 2)

    def account(self, images: int, of: int, twice: int = 0) -> Account:
        """The memory of a step with the activations of so many images at a time, out of a batch of ``of``.

        ``twice``: the first so many stages are computed twice.
        """
        held = peak = 0.0
        before = False  # whether the piece before this one is computed twice
        for start, stop in self._segments(twice):
            piece = self.pieces[start]
            again = 0 < piece.stage <= twice
            inside = sum(one.kept.at(images) for one in self.pieces[start:stop])
            # What enters is kept by the piece before it, which saves what it puts out, unless that is computed again.
            entry = piece.enters.at(images) if again or before else 0.0
            held += entry + (0.0 if again else inside)
            peak = max(peak, held + (inside if again else 0.0))
            before = again
        largest = max(piece.enters.at(images) for piece in self.pieces)
        libraries = LIBRARIES + (COMPILER if twice else 0.0)
        return Account(
            parameters=self.parameters,
            gradients=self.trained,
            momenta=self.momenta,
            batch=of * self.image,
            activations=round(held),
            recomputation=round(peak - held),
            workspace=round(PASSING[twice > 0] * largest + libraries + HEAP[twice > 0] * peak),
        )

    def _segments(self, twice: int) -> list[tuple[int, int]]:
        """The pieces as ranges: segments where they are computed twice, else each by itself."""
        found, start = [], 0
        while start < len(self.pieces):
            stage = self.pieces[start].stage
            length = 1
            if 0 < stage <= twice:
                end = max(i for i, piece in enumerate(self.pieces) if piece.stage == stage) + 1
                blocks = sum(piece.stage == stage for piece in self.pieces)
                length = min(segment_length(blocks), end - start)
            found.append((start, start + length))
            start += length
        return found

    def more_time(self, twice: int) -> float:
        """An estimate of the time that computing the first stages twice adds to a step, as a share of it.

        The forward pass is a third of a step: backward has two products for each of its own.
        """
        return sum(self.macs[1 : 1 + twice]) / sum(self.macs) / 3 if twice else 0.0

    def plan(self, images: int, of: int, budget: int) -> "Plan | None":
        """The least recomputation with which a step fits into so many bytes; None where it does not with any.

        The first stages, whose activations are the largest, come first. Images as in `account`.
        """
        for twice in range(self.stages + 1):
            found = self.account(images, of, twice)
            if found.total <= budget:
                return Plan(twice, self.stages, budget, found, self.more_time(twice))
        return None

    def least(self, images: int, of: int) -> int:
        """Bytes of a step with whatever takes least. Images as in `account`."""
        return min(self.account(images, of, twice).total for twice in range(self.stages + 1))


def measure(net: nn.Module, recipe: Recipe, device: torch.device) -> Memory:
    """Measures what the forward pass of a network keeps for the backward pass, in the mode that it is in.

    Nothing of the network changes, nor the state of PyTorch's generators.
    """
    group = recipe.bn_group
    samples = SAMPLES if group is None or group >= SAMPLES[1] else (group, 2 * group)
    counts = [_kept(net, recipe, device, images) for images in samples]
    pieces = tuple(
        Piece(stage, Line.through(samples, (few, many)), Line.through(samples, (few_enter, many_enter)))
        for (stage, few, few_enter), (_, many, many_enter) in zip(*counts, strict=True)
    )
    learned = sum(p.numel() * p.element_size() for p in trained(net).values())
    rule = recipe.optimizer
    moving = rule.momentum or (isinstance(rule, Muon) and rule.others.momentum)
    whole = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
    macs = tuple(part.macs for part in cost(net.spec, recipe.data.size).parts) if isinstance(net, Network) else ()
    return Memory(
        pieces=pieces,
        parameters=whole if recipe.average is None else 2 * whole,
        trained=learned,
        momenta=learned if moving else 0,
        image=4 * recipe.data.channels * math.prod(_size(recipe)),
        macs=macs,
    )


def _size(recipe: Recipe) -> tuple[int, int]:
    """Height and width of the largest training images."""
    return recipe.data.size if recipe.resolution is None else (recipe.resolution.end, recipe.resolution.end)


def _kept(net: nn.Module, recipe: Recipe, device: torch.device, images: int) -> list[tuple[int, int, int]]:
    """Stage, bytes kept and bytes entering, of each piece of a network, for so many images."""
    stages = net.stages if isinstance(net, Network) else ()
    found = [[0, 0, 0]]  # the stem, or all of a network that has no stages
    x = torch.zeros(images, recipe.data.channels, *_size(recipe), device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(images, dtype=torch.long, device=device)
    known = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *net.buffers(), x, labels)}

    def entering(stage: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found.append([stage, 0, inputs[0].numel() * inputs[0].element_size()])

        return hook

    def leaving(_stage: nn.Module, _inputs: tuple[Tensor, ...], y: Tensor) -> None:
        found.append([len(stages) + 1, 0, y.numel() * y.element_size()])

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:  # autograd holds it until the end, so that no other gets its place
            known.add(storage.data_ptr())
            found[-1][1] += storage.nbytes()
        return tensor

    hooks = [
        block.register_forward_pre_hook(entering(number)) for number, stage in enumerate(stages, 1) for block in stage
    ]
    hooks += [stage.register_forward_hook(leaving) for stage in stages[-1:]]
    segments, buffers, training = [stage.segment for stage in stages], [b.clone() for b in net.buffers()], net.training
    for stage in stages:
        stage.segment = None
    here = [device] if device.type == "cuda" else []
    try:
        with (
            torch.random.fork_rng(here),
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            with autocast(device, resolve_precision(recipe.precision, device)):
                logits = net.train()(x)
            F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
        for stage, segment in zip(stages, segments, strict=True):
            stage.segment = segment
        with torch.no_grad():
            for buffer, before in zip(net.buffers(), buffers, strict=True):
                buffer.copy_(before)
    return [(stage, kept, enters) for stage, kept, enters in found]


def account(net: nn.Module, recipe: Recipe, execution: Execution) -> Account:
    """The memory that a training step takes as it is configured."""
    images = recipe.global_batch // execution.world.size
    twice = execution.checkpoint_activations
    found = measure(net, recipe, execution.device)
    number = (found.stages if twice else 0) if twice is None or isinstance(twice, bool) else len(twice)
    return found.account(images // execution.accumulate, images, number)


@dataclass(frozen=True)
class Plan:
    """Which stages are computed twice, and what the step then takes."""

    twice: int
    """the first so many of them"""
    of: int
    """stages that there are"""
    budget: int
    account: Account
    more_time: float
    """share of a step's time; an estimate"""

    @property
    def choice(self) -> bool | tuple[int, ...]:
        """The plan in the form of `Execution.checkpoint_activations`."""
        if self.twice == 0:
            return False
        return True if self.twice == self.of else tuple(range(1, self.twice + 1))

    def said(self) -> str:
        """The plan in one line."""
        start = f"memory: {words(self.account.total)} of {words(self.budget)}"
        if not self.twice:
            return f"{start} without checkpointing"
        which = "all stages" if self.twice == self.of else "stage 1" if self.twice == 1 else f"stages 1 to {self.twice}"
        return f"{start} by computing {which} twice (about {100 * self.more_time:.0f} % more time)"


def plan(net: nn.Module, recipe: Recipe, execution: Execution, budget: int) -> Plan:
    """The least recomputation with which a step of a network's training fits into so many bytes.

    Raises `InputError` where nothing fits: what is needed, and what else there is.
    """
    ranks, accumulate = execution.world.size, execution.accumulate
    share = recipe.global_batch // ranks
    found = measure(net, recipe, execution.device)
    if made := found.plan(share // accumulate, share, budget):
        return made
    ways = []
    for parts in range(accumulate + 1, share + 1):
        fits = found.least(share // parts, share) <= budget
        synced = execution.sync_bn
        if fits and not why_not_shared(recipe, net, parts * ranks, ranks=ranks, synced=synced):
            ways.append(f"--accumulate {parts} (the same training, each batch in parts)")
            break
    own = share
    while own > 2 and not ways:
        own //= 2
        if found.least(own // accumulate, own) <= budget:
            ways.append(f"a smaller batch (--batch-size {own * ranks}, a different training)")
    need = found.least(share // accumulate, share)
    ways.append(f"--memory-budget {math.ceil(need / 1e6)}MB")
    how = "even with all stages computed twice" if found.stages else f"and {recipe.net.name} cannot be checkpointed"
    raise InputError(
        f"a step of {share // accumulate} images at a time needs {words(need)} of memory, --memory-budget "
        f"allows {words(budget)}, {how}; try {' or '.join(ways)}"
    )
