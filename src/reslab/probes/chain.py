"""A network as a chain of blocks, evaluated in many variants at once: what variants share is computed once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.nets.spec import SAME_SHAPE, NoShortcut
from reslab.probes.result import Floats, as_floats
from reslab.probes.seam import Sample, bypassed, computing, opened

Action = Literal["whole", "bypassed"]
"""A block as it is, or without its branch."""
Step = tuple[int, Action]
"""Which link of the chain, counted from 0, and how."""
Variant = tuple[Step, ...]
"""The links of a variant in their order; what is left out is not there."""
Tick = Callable[[float], object]
"""Told the share of the work that is done, 0 to 1."""


@dataclass(frozen=True)
class Link:
    """One block of the chain; of another library's network one convolution with what follows it."""

    name: str
    module: nn.Module
    residual: bool
    keeps: bool
    """whether what leaves it has the shape of what enters it, so that the chain holds without it"""
    slot: str | None
    """links of one slot can change places; None where it cannot change with any"""

    @property
    def deletable(self) -> bool:
        """A residual block leaves its shortcut behind; a plain one can go where it keeps the shape."""
        return self.residual or self.keeps


@dataclass(frozen=True)
class Chain:
    """A network cut at its blocks: leave(links(enter(x))) computes what it does."""

    name: str
    enter: Callable[[Tensor], Tensor]
    links: tuple[Link, ...]
    leave: Callable[[Tensor], Tensor]

    @property
    def deletable(self) -> tuple[int, ...]:
        """The links that a lesion can delete."""
        return tuple(i for i, link in enumerate(self.links) if link.deletable)

    def without(self, gone: Sequence[int]) -> Variant:
        """The chain with the deletion of some links: residual blocks keep their shortcut, plain ones are left out."""
        steps: list[Step] = []
        for i, link in enumerate(self.links):
            if i not in gone:
                steps.append((i, "whole"))
            elif link.residual:
                steps.append((i, "bypassed"))
            else:
                assert link.keeps, f"{link.name} changes the shape"
        return tuple(steps)

    def run(self, step: Step, x: Tensor) -> Tensor:
        """One step of a variant."""
        index, action = step
        module = self.links[index].module
        if action == "whole":
            return module(x)  # type: ignore[no-any-return]
        with bypassed(module):  # type: ignore[arg-type]
            return module(x)  # type: ignore[no-any-return]


def chain_of(net: nn.Module) -> Chain:
    """The chain of one of our networks, or of another library's that is one: VGG's layers.

    Raises `InputError` for another network.
    """
    if isinstance(net, Network):
        return _own_chain(net)
    return _foreign_chain(net)


def _own_chain(net: Network) -> Chain:
    links = []
    width = net.spec.stem.width
    for name, block in net.named_blocks.items():
        spec = block.spec
        keeps = spec.stride == 1 and spec.width == width
        width = spec.width
        swaps = keeps and not spec.preactivated_shortcut and isinstance(spec.shortcut, (NoShortcut, *SAME_SHAPE))
        slot = name.partition(".")[0] if swaps else None
        links.append(Link(name, block, residual=block.has_shortcut, keeps=keeps, slot=slot))
    return Chain(net.spec.name, net.enter, tuple(links), lambda y: net.leave(y)[1])


def _foreign_chain(net: nn.Module) -> Chain:
    """A network that is features, pooling and classifier one after the other, cut before each convolution."""
    features, pool, classifier = (getattr(net, name, None) for name in ("features", "avgpool", "classifier"))
    whole = isinstance(features, nn.Sequential) and isinstance(pool, nn.Module) and isinstance(classifier, nn.Module)
    if not whole:
        raise InputError(
            f"a lesion needs a network in Reslab's grammar, or a chain of layers such as torchvision's VGG, "
            f"got {type(net).__name__}"
        )
    assert isinstance(features, nn.Sequential)
    assert isinstance(pool, nn.Module)
    assert isinstance(classifier, nn.Module)
    groups: list[tuple[str, list[nn.Module]]] = []
    for name, module in features.named_children():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) or not groups:
            groups.append((f"features.{name}", []))
        groups[-1][1].append(module)
    links = tuple(_foreign_link(name, modules) for name, modules in groups)
    return Chain(type(net).__name__, lambda x: x, links, lambda y: classifier(pool(y).flatten(1)))


def _foreign_link(name: str, modules: list[nn.Module]) -> Link:
    conv = modules[0]
    keeps = isinstance(conv, nn.Conv2d) and conv.in_channels == conv.out_channels and set(conv.stride) == {1}
    return Link(name, nn.Sequential(*modules), residual=False, keeps=keeps, slot=None)


@dataclass(frozen=True)
class Passes:
    """A cost in forward passes of one image through the whole network."""

    fused: float = 0.0
    """with the fused kernels on"""
    single: float = 0.0
    """module by module, as most probes need it"""

    def __add__(self, other: "Passes") -> "Passes":
        return Passes(self.fused + other.fused, self.single + other.single)


def passes_of(chain: Chain, variants: Sequence[Variant]) -> Passes:
    """The cost of `evaluate_variants`: shared beginnings are computed once, and all links cost about the same.

    A bypassed link is computed like a whole one: its branch too, which is then not added.
    """
    beginnings = {variant[:end] for variant in variants for end in range(1, len(variant) + 1)}
    return Passes(fused=len(beginnings) / len(chain.links))


@dataclass
class _Count:
    """Results of each variant over the batches so far."""

    wrong: list[int]
    loss: list[float]
    images: int = 0
    steps: list[int] = field(default_factory=list)
    """how often each link was computed, over all batches"""


@dataclass(frozen=True)
class Evaluated:
    """Errors of the variants, in their order, and what they cost."""

    error: Floats
    """per cent of the images"""
    loss: Floats
    """mean cross-entropy in nats"""
    cost: float
    """multiply-adds spent, as a share of those of evaluating each variant from the image on"""


class _Walk:
    """Evaluates variants on a batch, depth first: a common beginning is computed once, and little is kept."""

    def __init__(self, chain: Chain, variants: Sequence[Variant], count: _Count) -> None:
        self.chain, self.variants, self.count = chain, variants, count
        self.labels = torch.empty(0)

    def batch(self, x: Tensor, labels: Tensor) -> None:
        self.labels = labels
        self.count.images += len(labels)
        self._from(self.chain.enter(x), list(range(len(self.variants))), 0)

    def _from(self, state: Tensor, group: list[int], depth: int) -> None:
        while group:
            ended = [v for v in group if len(self.variants[v]) == depth]
            if ended:
                self._finish(state, ended)
            branches: dict[Step, list[int]] = {}
            for v in group:
                if len(self.variants[v]) > depth:
                    branches.setdefault(self.variants[v][depth], []).append(v)
            if not branches:
                return
            # The largest part goes on in this loop, which lets go of the state; the others are done before it.
            *small, (step, group) = sorted(branches.items(), key=lambda item: len(item[1]))
            for other, members in small:
                self._from(self._run(other, state), members, depth + 1)
            state = self._run(step, state)
            depth += 1

    def _run(self, step: Step, state: Tensor) -> Tensor:
        self.count.steps[step[0]] += 1
        return self.chain.run(step, state)

    def _finish(self, state: Tensor, members: list[int]) -> None:
        self.count.steps[-1] += 1
        logits = self.chain.leave(state).float()
        wrong = int((logits.argmax(1) != self.labels).sum())
        loss = float(F.cross_entropy(logits, self.labels, reduction="sum").double())
        for v in members:
            self.count.wrong[v] += wrong
            self.count.loss[v] += loss


@torch.no_grad()
def evaluate_variants(
    net: nn.Module, sample: Sample, variants: Sequence[Variant], *, tick: Tick | None = None
) -> Evaluated:
    """Error and loss of every variant of a network on the sample.

    Variants that begin with the same steps share them: of all n single lesions of a chain of equal blocks, with the
    whole, that is (n + 3) / (2 (n + 1)) of the work, about a half. A lesioned block's branch is computed, and not
    used. The fused kernels are left on where they are: nothing is looked at but the logits.
    """
    assert variants, "at least one variant"
    chain = chain_of(net)
    count = _Count([0] * len(variants), [0.0] * len(variants), steps=[0] * (len(chain.links) + 1))
    walk = _Walk(chain, variants, count)
    with opened(net):  # what kernels of our own do is not counted
        macs = _macs(net, chain, sample)
    with opened(net, fused=True):
        batches = -(-len(sample) // sample.batch)
        for done, (x, labels) in enumerate(sample, 1):
            with computing(sample):
                walk.batch(x, labels)
            if tick is not None:
                tick(done / batches)
    start, *links, end = macs
    spent = batches * start + sum(a * b for a, b in zip(count.steps, [*links, end], strict=True))
    alone = batches * sum(start + end + sum(links[index] for index, _ in variant) for variant in variants)
    n = count.images
    return Evaluated(
        error=as_floats(count.wrong) * 100 / n, loss=as_floats(count.loss) / n, cost=spent / alone if alone else 1.0
    )


def _macs(net: nn.Module, chain: Chain, sample: Sample) -> list[int]:
    """Multiply-adds of entering, of each link and of leaving, for one image; checks that the chain is the network."""

    def counted(part: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, int]:
        counter = FlopCounterMode(display=False)
        with counter:
            y = part(x)
        return y, int(counter.get_total_flops()) // 2

    x = sample.x[:1]
    state, first = counted(chain.enter, x)
    macs = [first]
    for link in chain.links:
        state, spent = counted(link.module, state)
        macs.append(spent)
    logits, last = counted(chain.leave, state)
    if not isinstance(net, Network) and not torch.allclose(logits, net(x), rtol=1e-3, atol=1e-4):
        raise InputError(f"{type(net).__name__} is not a chain of its layers: what it computes is more than they do")
    return [*macs, last]
