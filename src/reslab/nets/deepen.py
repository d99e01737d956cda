"""A deeper network that computes the same: the constructed solution of He 2015, section 1.

"There exists a solution by construction to the deeper model: the added layers are identity mapping, and the
other layers are copied from the learned shallower model." It is exact in evaluation mode. In training mode an
added BN of a plain network normalises by its batch, so that there the function is another from the first step.
"""

import torch
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets import edit
from reslab.nets.blocks import Block
from reslab.nets.catalog import resolve
from reslab.nets.edit import Part
from reslab.nets.equivalence import differences
from reslab.nets.network import Network
from reslab.nets.spec import Block as BlockSpec
from reslab.nets.spec import (
    Conv,
    Conv1x1,
    Dense,
    Dropout,
    Identity,
    MaxPool,
    NetSpec,
    NoShortcut,
    Projection,
    Scale,
    ZeroPad,
    branch_layers,
)

IDEMPOTENT = ("relu", "identity")
"""Activations that leave their own output as it is, so that an added one changes nothing."""


@torch.no_grad()
def deepened(net: Network, to: str | NetSpec) -> Network:
    """The deeper network ``to`` with the weights of ``net``, blocks being added at the end of each stage.

    Residual: the added branches end in zero. Plain: the added layers are Dirac kernels with neutral BN, behind a
    ReLU. Raises `InputError` where ``to`` is not ``net`` with more blocks, or an added block of its kind cannot
    compute the identity, with the reason.
    """
    old = net.spec
    new = resolve(to, num_classes=old.num_classes, in_channels=old.in_channels, size=old.size)
    _check_same_but_deeper(old, new)
    plan = tuple(
        tuple(Part(block, f"layer{s}.{b}" if b < len(old.stages[s - 1]) else None) for b, block in enumerate(stage))
        for s, stage in enumerate(new.stages, 1)
    )
    added = [f"layer{s}.{b}" for s, stage in enumerate(plan, 1) for b, part in enumerate(stage) if part.source is None]
    for name in added:
        if reason := _why_not(new.named_blocks[name], new):
            raise InputError(f"{name} of '{new.name}' cannot start as the identity: {reason}")
    deeper = edit.rebuilt(net, plan, name=new.name)
    deeper.spec = new  # with its own citation
    for name in added:
        _make_identity(deeper.get_submodule(name))
    return deeper


def _check_same_but_deeper(old: NetSpec, new: NetSpec) -> None:
    before, after = [len(stage) for stage in old.stages], [len(stage) for stage in new.stages]
    if len(before) != len(after) or any(a > b for a, b in zip(before, after, strict=True)) or before == after:
        raise InputError(
            f"'{new.name}' is not deeper than '{old.name}': its stages have {_counts(after)} blocks, those of "
            f"'{old.name}' {_counts(before)}; name a network with more blocks in some stage and fewer in none"
        )
    shared = tuple(stage[:count] for stage, count in zip(new.stages, before, strict=True))
    if found := differences(old, new.model_copy(update={"stages": shared})):
        raise InputError(f"'{new.name}' is not '{old.name}' with more blocks: {'; '.join(found)}")


def _counts(counts: list[int]) -> str:
    return ", ".join(map(str, counts))


def _why_not(block: BlockSpec, spec: NetSpec) -> str:
    """Why a block cannot compute the identity; nothing if it can."""
    layers = branch_layers(block)
    pre = block.order.endswith("preactivation")
    if isinstance(block.shortcut, NoShortcut):
        widths = {layer.width for layer in layers if isinstance(layer, Conv | Dense)}
        if widths != {block.width}:
            return "a plain block that is narrower inside cannot pass all channels on"
        if any(isinstance(layer, MaxPool) for layer in layers):
            return "a plain block with pooling loses the positions of its input"
        if pre:
            return "a plain pre-activation block applies ReLU to an input that may be negative, so it cannot pass it on"
    elif isinstance(block.shortcut, Scale) and block.shortcut.shortcut != 1:
        return f"its shortcut multiplies by {block.shortcut.shortcut:g}"
    elif not isinstance(block.shortcut, Identity | ZeroPad | Projection | Conv1x1 | Dropout | Scale):
        return f"a shortcut of kind '{block.shortcut.kind}' never passes its input on exactly"
    if not isinstance(block.shortcut, NoShortcut) and spec.norm is not None and not spec.norm.scale:
        return "its BN has no scale, which would have to be 0 at first to switch the branch off"
    after_addition = not pre and block.order != "relu-before-addition"
    if (after_addition or isinstance(block.shortcut, NoShortcut)) and spec.activation not in IDEMPOTENT:
        return f"a second {spec.activation} changes the output of the first"
    return ""


def _make_identity(block: nn.Module) -> None:
    assert isinstance(block, Block)
    if not block.has_shortcut:
        for name, child in block.named_children():
            if name.startswith(("conv", "linear")):
                _pass_on(child)
            elif isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                _neutral(child)
        return
    end = block.last_norm if block.last_norm is not None else block.last_layer
    for parameter in end.parameters(recurse=False):
        parameter.zero_()
    if block.order == "bn-after-addition":
        after = getattr(block, f"bn{block.last}")
        if isinstance(after, nn.BatchNorm1d | nn.BatchNorm2d):
            _neutral(after)
    if isinstance(block.spec.shortcut, Projection | Conv1x1):
        assert block.downsample is not None
        for child in block.downsample.children():
            if isinstance(child, nn.BatchNorm2d):
                _neutral(child)
            elif isinstance(child, nn.Conv2d):
                _pass_on(child)


def _pass_on(layer: nn.Module) -> None:
    """A layer that puts out what it takes."""
    if isinstance(layer, nn.Conv2d):
        nn.init.dirac_(layer.weight, layer.groups)
    elif isinstance(layer, nn.Linear):
        nn.init.eye_(layer.weight)
    bias: Tensor | None = getattr(layer, "bias", None)
    if bias is not None:
        bias.zero_()


def _neutral(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """BN that changes nothing in evaluation: its variance is such that the root in its formula is of 1."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.weight.fill_(1)
    norm.bias.zero_()
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
