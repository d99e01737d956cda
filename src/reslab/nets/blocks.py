"""The block: branch, shortcut and addition, in one of five orders of activations.

A block hands BN, addition and ReLU together to `norm_add_act`, which runs one kernel where it can.
"""

from torch import Tensor, nn

from reslab.nets import spec
from reslab.nets.layers import (
    ACTIVATIONS,
    Add,
    BatchNorm2d,
    Conv2d,
    DropPath,
    Gate,
    MaxPool2d,
    Pad,
    is_hooked,
    make_layer,
    make_norm,
    norm_add_act,
    norm_only,
    shared,
)
from reslab.nets.spec import NetSpec, ZeroPad, branch_layers


class Block(nn.Module):
    """Branch, shortcut, addition and activations in one of five orders, under torchvision's parameter names.

    Layer i of the branch is ``conv{i}`` (``linear{i}`` for vectors, ``pool{i}``) with its ``bn{i}`` and
    ``relu{i}``; in a pre-activation order these two come before it. A convolution's own pool is ``pool{i}`` too.
    """

    def __init__(self, before: int, block: spec.Block, net: NetSpec) -> None:
        super().__init__()
        self.spec = block
        self.order = block.order
        layers = branch_layers(block)
        self.names: list[str] = []
        weighted = [i for i, layer in enumerate(layers, 1) if isinstance(layer, spec.WEIGHTED)]
        pooled = set()
        width = before
        for i, layer in enumerate(layers, 1):
            dense = isinstance(layer, spec.Dense)
            name = {"conv": "conv", "dense": "linear", "max-pool": "pool", "drop": "drop"}[layer.kind] + str(i)
            self.names.append(name)
            setattr(self, name, make_layer(width, layer, bias=net.norm is None))
            if not isinstance(layer, spec.WEIGHTED):
                continue
            if isinstance(layer, spec.Conv) and layer.pool > 1:
                setattr(self, f"pool{i}", MaxPool2d(layer.pool, layer.pool))
                pooled.add(i)
            normed = width if block.order == "full-preactivation" else layer.width
            setattr(self, f"bn{i}", make_norm(normed, net, dense=dense))
            setattr(self, f"relu{i}", ACTIVATIONS[net.activation]())
            width = layer.width
        self.pooled = frozenset(pooled)
        self.weighted = weighted
        self.last = weighted[-1] if weighted else 0
        dropout = block.branch.dropout if isinstance(block.branch, spec.Basic) else 0.0
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.drop_path = DropPath(block.drop_path) if block.drop_path else None
        self.has_shortcut = not isinstance(block.shortcut, spec.NoShortcut)
        self.add = Add() if self.has_shortcut else None
        self.scales = (1.0, 1.0)  # of branch and shortcut
        self.gate: Gate | None = None
        self.downsample = self._shortcut(before, block, net)

    def _shortcut(self, before: int, block: spec.Block, net: NetSpec) -> nn.Module | None:
        match block.shortcut:
            case ZeroPad() as pad:
                return Pad(before, block.width, block.stride, pad)
            case spec.Projection(norm=normed, pool=pool):
                layers: list[nn.Module] = []
                stride = block.stride
                if pool:
                    # As timm: sizes round up, what was padded does not count in the mean, and without a stride
                    # the place stays, so that the convolution has one name.
                    average = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
                    layers.append(average if stride > 1 else nn.Identity())
                    stride = 1
                bias = net.norm is None
                layers.append(Conv2d(before, block.width, 1, stride, bias=bias))
                if normed and net.norm is not None:
                    layers.append(make_norm(block.width, net))
                return nn.Sequential(*layers)
            case spec.Scale(shortcut=shortcut, residual=residual):
                self.scales = (residual, shortcut)
            case spec.ExclusiveGate(bias=initial, kernel=kernel) | spec.ShortcutGate(bias=initial, kernel=kernel):
                self.gate = Gate(before, kernel, initial)
            case spec.Conv1x1():
                return nn.Sequential(nn.Conv2d(before, block.width, 1, bias=True))
            case spec.Dropout(rate=rate):
                return nn.Sequential(nn.Dropout(rate))
        return None

    @property
    def last_norm(self) -> nn.Module | None:
        """The BN that the branch ends in; None where a convolution comes last, or there is no BN."""
        if self.order in ("full-preactivation", "bn-after-addition"):
            return None
        norm = getattr(self, f"bn{self.last}")
        return norm if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) else None

    @property
    def last_layer(self) -> nn.Module:
        """The last layer of the branch that has weights."""
        layer = getattr(self, self.names[self.last - 1])
        assert isinstance(layer, nn.Module)
        return layer

    def _layer(self, i: int, x: Tensor) -> Tensor:
        if self.dropout is not None and i > 1:
            x = self.dropout(x)
        y = getattr(self, self.names[i - 1])(x)
        return getattr(self, f"pool{i}")(y) if i in self.pooled else y  # type: ignore[no-any-return]

    def _norm_act(self, i: int, x: Tensor) -> Tensor:
        return norm_add_act(getattr(self, f"bn{i}"), x, add=None, shortcut=None, act=getattr(self, f"relu{i}"))

    def _join(self, x: Tensor, branch: Tensor, shortcut: Tensor) -> Tensor:
        """The addition, with what the shortcut's kind does to its two terms; ``x`` is the block's input."""
        if self.drop_path is not None:
            branch = self.drop_path(branch)
        if self.gate is not None:
            gate = self.gate(x)
            shortcut = shortcut * (1 - gate)
            if isinstance(self.spec.shortcut, spec.ExclusiveGate):
                branch = branch * gate
        if self.scales != (1.0, 1.0):
            branch, shortcut = branch * self.scales[0], shortcut * self.scales[1]
        assert self.add is not None
        return self.add(branch, shortcut)  # type: ignore[no-any-return]

    @property
    def _simple_sum(self) -> bool:
        """Whether the addition is F(x) + shortcut as it is, which BN, addition and ReLU can be fused with."""
        return self.drop_path is None and self.gate is None and self.scales == (1.0, 1.0)

    def _skip(self, x: Tensor) -> Tensor:
        start = shared(x)
        if self.downsample is None:
            return start
        if not isinstance(self.downsample, nn.Sequential) or not isinstance(self.downsample[-1], BatchNorm2d):
            return self.downsample(start)  # type: ignore[no-any-return]
        if is_hooked(self.downsample):
            return self.downsample(start)  # type: ignore[no-any-return]
        *layers, norm = self.downsample
        for layer in layers:
            start = layer(start)
        return norm_only(norm, start)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H/stride, W/stride), or (N, C) -> (N, C')."""
        if self.order.endswith("preactivation"):
            return self._preactivated(x)
        y = x
        n = len(self.names)
        for i in range(1, n + 1):
            y = self._layer(i, y)
            if i not in self.weighted:
                continue
            norm, act = getattr(self, f"bn{i}"), getattr(self, f"relu{i}")
            if i != self.last or not self.has_shortcut or self.order == "relu-before-addition":
                y = norm_add_act(norm, y, add=None, shortcut=None, act=act)
            elif self.order == "bn-after-addition":
                y = norm_add_act(norm, self._join(x, y, self._skip(x)), add=None, shortcut=None, act=act)
            elif self._simple_sum:
                y = norm_add_act(norm, y, add=self.add, shortcut=self._skip(x), act=act)
            else:
                y = act(self._join(x, norm(y), self._skip(x)))
        if self.has_shortcut and self.order == "relu-before-addition":
            y = self._join(x, y, self._skip(x))
        return y

    def _preactivated(self, x: Tensor) -> Tensor:
        y = start = x
        for i in range(1, len(self.names) + 1):
            if i not in self.weighted:
                y = self._layer(i, y)
            elif self.order == "full-preactivation":
                y = self._norm_act(i, y)
                if i == self.weighted[0] and self.spec.preactivated_shortcut:
                    start = y
                y = self._layer(i, y)
            else:
                y = getattr(self, f"relu{i}")(y)
                if i == self.weighted[0] and self.spec.preactivated_shortcut:
                    start = y
                y = getattr(self, f"bn{i}")(self._layer(i, y))
        return self._join(x, y, self._skip(start)) if self.has_shortcut else y
