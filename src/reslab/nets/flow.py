"""The operations of a network step by step, in the order of the modules. Plain data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from reslab.nets.spec import (
    WEIGHTED,
    Activation,
    Basic,
    Block,
    Conv,
    Conv1x1,
    Dense,
    DenseStem,
    Drop,
    Dropout,
    ExclusiveGate,
    MaxPool,
    NetSpec,
    NoShortcut,
    Projection,
    Scale,
    ShortcutGate,
    WhiteningStem,
    ZeroPad,
    branch_layers,
)

ACTIVATIONS: dict[Activation, str] = {
    "relu": "ReLU",
    "tanh": "tanh",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "leaky-relu": "leaky ReLU",
    "identity": "",
}


@dataclass(frozen=True)
class Step:
    """One thing that happens to the signal: a layer, BN, an activation, a factor."""

    kind: Literal["conv", "fc", "pool", "pad", "norm", "act", "drop", "times", "sigmoid", "softmax"]
    what: str
    width: int | None = None
    """Channels that leave it, where it sets them."""
    details: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """What, and how wide: ``3x3 conv, 64``."""
        return self.what if self.width is None else f"{self.what}, {self.width}"

    @property
    def text(self) -> str:
        """All of it: ``3x3 conv, 64, stride 2``."""
        return ", ".join((self.head, *self.details))

    @property
    def row(self) -> str:
        """The operation as a row in a paper's table: ``3x3, 64, C=32``."""
        details = (f"C={word.removesuffix(' groups')}" if word.endswith(" groups") else word for word in self.details)
        return ", ".join((self.head.replace(" conv", ""), *details))

    @property
    def strides(self) -> bool:
        """Whether fewer pixels leave it than come in."""
        return any(word.startswith("stride ") and word != "stride 1" for word in self.details)


Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Flow:
    """A block as the signal sees it: up to the fork, the ways to the addition, and what comes behind it."""

    fork: Steps
    """Before the ways part: BN and activation of a pre-activated shortcut."""
    branch: Steps
    shortcut: Steps | None
    """None where there is no shortcut; empty where it is the identity."""
    gate: Steps
    """From the block's input to the gate g."""
    after: Steps


def _conv(kernel: int, width: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> Step:
    options = ((groups, f"{groups} groups"), (dilation, f"dilation {dilation}"), (stride, f"stride {stride}"))
    return Step("conv", f"{kernel}x{kernel} conv", width, tuple(text for value, text in options if value > 1))


def _pool(kernel: int, stride: int, what: str = "max pool") -> Step:
    return Step("pool", f"{kernel}x{kernel} {what}", None, (f"stride {stride}",))


def _dropout(rate: float) -> Step:
    return Step("drop", "dropout", None, (f"p = {rate:g}",))


def _drop(rate: float) -> Steps:
    return (_dropout(rate),) if rate else ()


def _norm(spec: NetSpec) -> Steps:
    return (Step("norm", "BN"),) if spec.norm is not None else ()


def _act(spec: NetSpec) -> Steps:
    return (Step("act", ACTIVATIONS[spec.activation]),) if ACTIVATIONS[spec.activation] else ()


def _layer(layer: Conv | Dense | MaxPool | Drop) -> Steps:
    match layer:
        case Conv():
            conv = _conv(layer.kernel, layer.width, layer.stride, layer.groups, layer.dilation)
            return (conv, _pool(layer.pool, layer.pool)) if layer.pool > 1 else (conv,)
        case Dense():
            return (Step("fc", "fc", layer.width),)
        case MaxPool():
            return (_pool(layer.kernel, layer.stride),)
        case Drop():
            return (_dropout(layer.rate),)


def _layers(block: Block) -> Iterator[tuple[bool, Steps]]:
    for index, layer in enumerate(branch_layers(block)):
        between = block.branch.dropout if isinstance(block.branch, Basic) and index else 0.0
        yield isinstance(layer, WEIGHTED), (*_drop(between), *_layer(layer))


def layers(block: Block) -> Steps:
    """The layers of a block's branch, without BN and activations."""
    return tuple(step for _, steps in _layers(block) for step in steps)


def flow(block: Block, entering: int, spec: NetSpec) -> Flow:
    """The steps of a block that ``entering`` channels come into."""
    joins = not isinstance(block.shortcut, NoShortcut)
    fork: Steps = ()
    after: Steps = ()
    if block.order.endswith("preactivation"):
        fork, branch = _preactivated(block, spec)
    else:
        branch, after = _postactivated(block, spec, joins=joins)
    if not joins:
        return Flow((), fork + branch, None, (), ())
    to_branch, shortcut, gate = _shortcut(block, entering, spec)
    if fork and gate:  # which sees what the fork does not
        gate = (replace(gate[0], details=("of x", *gate[0].details)), *gate[1:])
    return Flow(fork, (*branch, *to_branch), shortcut, gate, after)


def _preactivated(block: Block, spec: NetSpec) -> tuple[Steps, Steps]:
    """The operations before the fork, and the branch after it."""
    norm, act, full = _norm(spec), _act(spec), block.order == "full-preactivation"
    fork: Steps = ()
    branch: Steps = ()
    first = True
    for has_weights, steps in _layers(block):
        if not has_weights:
            branch += steps
            continue
        branch += (*norm, *act) if full else act
        if first and block.preactivated_shortcut:
            fork, branch = branch, ()
        first = False
        branch += steps if full else (*steps, *norm)
    return fork, branch


def _postactivated(block: Block, spec: NetSpec, *, joins: bool) -> tuple[Steps, Steps]:
    """The branch up to the addition, and what follows it."""
    norm, act, found = _norm(spec), _act(spec), list(_layers(block))
    last = max((index for index, (has_weights, _) in enumerate(found) if has_weights), default=-1)
    branch: Steps = ()
    for index, (has_weights, steps) in enumerate(found):
        branch += steps
        if index == last and joins and block.order != "relu-before-addition":
            behind = tuple(step for _, group in found[last + 1 :] for step in group)
            if block.order == "bn-after-addition":
                return branch, (*norm, *act, *behind)
            return (*branch, *norm), (*act, *behind)
        if has_weights:
            branch += (*norm, *act)
    return branch, ()


def _shortcut(block: Block, entering: int, spec: NetSpec) -> tuple[Steps, Steps, Steps]:
    """The operations that a kind of shortcut adds to the branch and to the shortcut, and its gate."""
    branch: Steps = (Step("drop", "drop path"),) if block.drop_path else ()
    way: Steps = ()
    gate: Steps = ()
    strided = (f"stride {block.stride}",) if block.stride > 1 else ()
    match block.shortcut:
        case ZeroPad(zeros=zeros):
            where = "on both sides" if zeros == "both" else "at the end"
            way = (Step("pad", "subsampling", None, strided),) if strided else ()
            way += (Step("pad", "zero padding", block.width, (where,)),) if block.width > entering else ()
        case Projection(norm=normed, pool=pool):
            pooled = pool and block.stride > 1
            way = (_pool(block.stride, block.stride, "average pool"),) if pooled else ()
            way += (_conv(1, block.width, 1 if pooled else block.stride), *(_norm(spec) if normed else ()))
        case Scale(shortcut=factor, residual=residual):
            branch += (Step("times", f"× {residual:g}"),) if residual != 1 else ()
            way = (Step("times", f"× {factor:g}"),) if factor != 1 else ()
        case ExclusiveGate(bias=bias, kernel=kernel) | ShortcutGate(bias=bias, kernel=kernel):
            gate = (replace(_conv(kernel, entering), details=(f"bias {bias:g}",)), Step("sigmoid", "sigmoid"))
            way = (Step("times", "× (1 - g)"),)
            branch += (Step("times", "× g"),) if isinstance(block.shortcut, ExclusiveGate) else ()
        case Conv1x1():
            way = (_conv(1, block.width),)
        case Dropout(rate=rate):
            way = _drop(rate)
    return branch, way, gate


def stem(spec: NetSpec) -> tuple[Steps, Steps]:
    """The first layers, and the max pool behind them."""
    first = spec.stem
    if isinstance(first, WhiteningStem):
        conv = _conv(first.kernel, first.width, first.stride)
        return (replace(conv, details=("whitening", *conv.details)), *_act(spec)), ()
    behind = (*_norm(spec), *_act(spec)) if first.norm else ()
    if isinstance(first, DenseStem):
        return (Step("fc", "fc", first.width), *behind), ()
    steps = _drop(first.dropout)
    for index, width in enumerate((*first.before, first.width)):
        between = (*_norm(spec), *_act(spec)) if index < len(first.before) else behind
        steps += (_conv(first.kernel, width, 1 if index else first.stride), *between)
    return steps, (_pool(3, 2),) if first.pool else ()


def head(spec: NetSpec) -> Steps:
    """The operations after the last block. The softmax belongs to the loss: the module returns logits."""
    final = {"none": (), "activation": _act(spec), "norm-activation": (*_norm(spec), *_act(spec))}[spec.final]
    pool = () if isinstance(spec.stem, DenseStem) else (Step("pool", f"{spec.pool} pool"),)
    last = (Step("fc", f"{spec.num_classes}-d fc"), Step("softmax", "softmax"))
    return (*final, *pool, *_drop(spec.dropout), *last)
