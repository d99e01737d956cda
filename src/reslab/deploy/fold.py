"""Batch normalisation folded into the layer before it: fewer steps, the same function.

In evaluation BN is y = s x + t for each channel, with s = gamma / sqrt(var + eps) and t = beta - s mean. Behind a
convolution or a linear layer with weights W and bias b that is the same layer with weights s W and bias s b + t. Where
BN comes before its layer (He 2016, Fig. 4 (e)) or behind an addition (Fig. 4 (b)) there is nothing to fold it into
but what others read, too, and it stays.

Where a max pool lies between, the scales (none below zero) go into the layer and the shift stays behind the pool: there
it costs less, and OpenVINO 2026.4 needs it. Of a convolution, a max pool and a GELU it computes the GELU before the
pool, as if GELU never fell.
"""

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from reslab.errors import first_line
from reslab.nets import layers

# By their very type: a subclass of another library may do more than its parent (activation, weight standardisation).
_NORMS: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, layers.BatchNorm2d)
_CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv2d, layers.Conv2d)
_POOLS: tuple[type[nn.Module], ...] = (nn.MaxPool2d, layers.MaxPool2d)


class _Stays(Exception):
    """There is no layer to fold a BN into; says why."""


@dataclass(frozen=True)
class Folded:
    """A copy of a network with as much BN folded as can be."""

    net: nn.Module
    """in evaluation mode"""
    folded: tuple[str, ...]
    """names of the BNs that are gone; a `torch.nn.Identity` stands in for each, or behind a pool a `Shift`"""
    left: dict[str, str] = field(default_factory=dict)
    """names of those that stay, and why"""


class Shift(nn.Module):
    """x + t for each channel: (N, C, H, W) -> the same."""

    def __init__(self, shift: torch.Tensor) -> None:
        super().__init__()
        self.shift = nn.Buffer(shift[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds it."""
        return x + self.shift


class _Tracer(fx.Tracer):
    """Follows a network down to the modules that hold no others."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None


def fold(net: nn.Module) -> Folded:
    """Folds BN into the layers before it, in a copy.

    Sums and products are made in fp64 and rounded once. A network whose flow cannot be followed (its code looks at
    the numbers that pass) is copied as it is, and ``left`` says so.

    Args:
        net: images (N, C, H, W) -> logits (N, classes), on any device.
    """
    copy = deepcopy(net).eval()
    norms = {name for name, module in copy.named_modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)}
    try:
        graph = _Tracer().trace(copy)
    except Exception as why:  # whatever another library's code does with what is no tensor
        reason = f"the network's flow cannot be followed ({first_line(why)})"
        return Folded(copy, (), dict.fromkeys(sorted(norms), reason))
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    folded: list[str] = []
    left: dict[str, str] = {}
    for node in graph.nodes:
        if node.op != "call_module" or str(node.target) not in norms:
            continue
        name = str(node.target)
        try:
            layer, pooled = _layer_before(copy, node, calls)
        except _Stays as why:
            left[name] = str(why)
            continue
        _fold_into(layer, copy.get_submodule(name))
        parent, _, last = name.rpartition(".")
        setattr(copy.get_submodule(parent), last, Shift(_taken_from(layer)) if pooled else nn.Identity())
        folded.append(name)
    never = {name: "it is not called" for name in norms if name not in calls}
    return Folded(copy, tuple(folded), left | never)


def _layer_before(net: nn.Module, node: fx.Node, calls: Counter[str]) -> tuple[nn.Module, bool]:
    """The layer that a BN is to be folded into, and whether a max pool lies between."""
    norm = net.get_submodule(str(node.target))
    if type(norm) not in _NORMS or getattr(norm, "running_var", None) is None:
        raise _Stays("it does more than BN with running statistics")
    if calls[str(node.target)] > 1:
        raise _Stays("it is called several times")
    source = _before(node)
    pooled = _is(source, _POOLS, net)
    if pooled:
        scale = norm.weight
        if len(source.users) > 1 or (isinstance(scale, torch.Tensor) and bool((scale < 0).any())):
            raise _Stays("a pool lies between, and the largest number times a scale below 0 is not the largest")
        source = _before(source)
    if not _is(source, _CONVOLUTIONS if pooled or isinstance(norm, nn.BatchNorm2d) else (nn.Linear,), net):
        raise _Stays("no convolution or linear layer comes before it")
    if len(source.users) > 1 or calls[str(source.target)] > 1:
        raise _Stays("what comes before it is used elsewhere, too")
    return net.get_submodule(str(source.target)), pooled


def _taken_from(layer: nn.Module) -> torch.Tensor:
    """A convolution's bias (C), which it then has no more."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    shift, layer.bias = layer.bias.detach(), None
    return shift


def _before(node: fx.Node) -> fx.Node:
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node):
        raise _Stays("what it takes cannot be told")
    return source


def _is(node: fx.Node, kinds: tuple[type[nn.Module], ...], net: nn.Module) -> bool:
    return node.op == "call_module" and type(net.get_submodule(str(node.target))) in kinds


@torch.no_grad()
def _fold_into(layer: nn.Module, norm: nn.Module) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    fuse = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights

    assert norm.running_mean is not None
    assert norm.running_var is not None

    def wide(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor.detach().double()

    scale = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight.detach()
    shift = torch.zeros_like(norm.running_var) if norm.bias is None else norm.bias.detach()
    weight, bias = fuse(
        layer.weight.detach().double(), wide(layer.bias), norm.running_mean.double(), norm.running_var.double(),
        norm.eps, scale.double(), shift.double(),
    )  # fmt: skip
    kind = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(kind), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(kind), requires_grad=False)
