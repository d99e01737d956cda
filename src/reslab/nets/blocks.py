"""The modules that networks are built from. Each ReLU and each addition is a module, called once.

That makes hooks and attribution methods work on every network. Fused execution is a mode on top: a
block hands BN, addition and ReLU together to `norm_add_act`, which runs one kernel where it can.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.kernels import conv, pool
from reslab.kernels import norm as norm_kernel
from reslab.kernels.norm import Tracked
from reslab.nets import spec
from reslab.nets.spec import Activation, NetSpec, ZeroPad, branch_layers

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky-relu": nn.LeakyReLU,
    "identity": nn.Identity,
}


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics are taken over ``group`` images of the batch at a time.

    The paper's CIFAR networks saw 128 images on two GPUs, so that BN normalised over 64 (He 2015, 4.2).
    The running statistics follow the mean over the groups. ``group`` None is the whole batch.
    """

    group: int | None = None
    fused: bool = False

    def groups_of(self, batch: int) -> int:
        """How many groups a batch of so many images falls into."""
        if self.group is None or batch <= self.group:
            return 1
        if batch % self.group:
            raise ValueError(f"a batch of {batch} images cannot be cut into BN groups of {self.group}")
        return batch // self.group

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # As in PyTorch, no momentum means the plain average over all batches.
        newest = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), newest)
        self.running_var.lerp_(unbiased_var.to(self.running_var.dtype), newest)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), by PyTorch's own kernels."""
        groups = self.groups_of(x.shape[0]) if self.training else 1
        if groups == 1:
            return super().forward(x)
        parts, means, variances = [], [], []
        for part in x.chunk(groups):
            mean, var = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
            # With momentum 1, batch_norm leaves the part's own mean and unbiased variance in the buffers.
            parts.append(F.batch_norm(part, mean, var, self.weight, self.bias, True, 1.0, self.eps))
            means.append(mean)
            variances.append(var)
        self._track(torch.stack(means).mean(0), torch.stack(variances).mean(0))
        return torch.cat(parts)

    def forward_fused(self, x: Tensor, residual: Tensor | None, activation: norm_kernel.Activation) -> Tensor | None:
        """act(BN(x) + residual) by the fused kernel, or None where it does not apply."""
        groups = self.groups_of(x.shape[0]) if self.training else 1
        if self.weight.dtype != torch.float32 or not norm_kernel.supports(x, groups):
            return None  # the kernel reads fp32 parameters and statistics, whatever the activation
        assert self.running_mean is not None
        assert self.running_var is not None
        if not self.training:
            if torch.is_grad_enabled():
                return None
            return norm_kernel.norm_inference(
                x,
                residual,
                self.weight,
                self.bias,
                self.running_mean,
                self.running_var,
                eps=self.eps,
                activation=activation,
            )
        y, twin, mean, var = norm_kernel.norm_training(
            x, residual, self.weight, self.bias, eps=self.eps, groups=groups, activation=activation,
            tracked=self._followed(),
        )  # fmt: skip
        y.twin = twin  # type: ignore[attr-defined]
        if self.momentum is None:
            count = x.numel() // (x.shape[1] * groups)
            self._track(mean.mean(0), var.mean(0) * (count / (count - 1)))
        elif self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return y

    def _followed(self) -> Tracked | None:
        """The running statistics for the kernel; None where they are a plain average, which `_track` keeps."""
        if self.momentum is None or self.running_mean is None or self.running_var is None:
            return None
        return Tracked(self.running_mean, self.running_var, self.momentum)


def shared(x: Tensor) -> Tensor:
    """The activation as the shortcut takes it: the fused kernel's second output, if it comes from there.

    It is taken off the tensor: a tensor that refers to another of the same graph is freed late.
    """
    if torch.compiler.is_compiling():  # which cannot follow attributes of tensors, and runs no kernel of ours
        return x
    twin: Tensor = x.__dict__.pop("twin", x)
    return twin


class Conv2d(nn.Conv2d):
    """A convolution that runs a kernel of our own where it is quicker and the fused mode is on."""

    fused: bool = False
    direct: bool = True
    """False: PyTorch's own kernel, whatever the mode"""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        if self.fused and self.direct and x.device.type == "cpu":
            y = x.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else x
            if conv.supports(y, self) and conv.pays(y, self):
                return conv.conv3x3(y, self.weight)
        if conv.is_unsafe(self, x):
            down, across = self.stride
            return F.conv2d(x[..., ::down, ::across], self.weight, self.bias)
        return super().forward(x)


class MaxPool2d(nn.MaxPool2d):
    """Max pooling that runs a kernel of our own where there is one and the fused mode is on."""

    fused: bool = False

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        if self.fused and pool.supports(x, self):
            return pool.max_pool(x, self.kernel_size)  # type: ignore[arg-type]
        return super().forward(x)  # type: ignore[no-any-return]


class Add(nn.Module):
    """The addition of a block, as a module that hooks can see."""

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        """Two (N, C, H, W) -> their sum."""
        return branch + shortcut


class Pad(nn.Module):
    """Shortcut option A: subsample by the stride and add zero channels (He 2015, section 3.3)."""

    def __init__(self, before: int, after: int, stride: int, spec: ZeroPad) -> None:
        super().__init__()
        self.stride = stride
        missing = after - before
        low = missing // 2 if spec.zeros == "both" else 0
        self.padding = (0, 0, 0, 0, low, missing - low)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H/stride, W/stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def _is_hooked(module: nn.Module | None) -> bool:
    return module is not None and bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


class GlobalMaxPool(nn.Module):
    """The largest number over the positions of an image; a vector passes."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) or (N, C) -> (N, C)."""
        return x.amax((2, 3)) if x.dim() == 4 else x


class GlobalAveragePool(nn.Module):
    """Mean over the positions of an image; a vector passes."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) or (N, C) -> (N, C)."""
        return x.mean((2, 3)) if x.dim() == 4 else x


class DropPath(nn.Module):
    """Stochastic depth: training drops the branch of an image with a probability (Huang et al. 2016, eq. 2).

    The kept branches are scaled by 1/(1 - p), so that nothing changes in evaluation.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any (N, ...) -> the same shape."""
        if not self.training:
            return x
        keep = 1 - self.rate
        mask = torch.empty((len(x), *[1] * (x.dim() - 1)), dtype=x.dtype, device=x.device).bernoulli_(keep)
        return x * mask / keep


class Gate(nn.Module):
    """g = sigmoid(W x + b): how much of the branch passes (He 2016, section 3.1; Srivastava 2015)."""

    def __init__(self, width: int, kernel: int, bias: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2)
        self.initial_bias = bias
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W) in (0, 1)."""
        return self.sigmoid(self.conv(x))  # type: ignore[no-any-return]


def fusable(act: nn.Module) -> norm_kernel.Activation:
    """What the fused kernel calls an activation; "none" for those that it does not know."""
    if isinstance(act, nn.ReLU):
        return "relu"
    return "gelu" if isinstance(act, nn.GELU) and act.approximate == "none" else "none"


def norm_add_act(norm: nn.Module, x: Tensor, *, add: Add | None, shortcut: Tensor | None, act: nn.Module) -> Tensor:
    """act(norm(x) + shortcut): module by module, or fused where the mode is on and the tensor allows it."""
    # Whoever hooks one of the modules wants to see it called.
    if isinstance(norm, BatchNorm2d) and norm.fused and not any(_is_hooked(module) for module in (norm, add, act)):
        known = fusable(act)
        y = norm.forward_fused(x, shortcut, known)
        if y is not None:
            return act(y) if known == "none" else y
    y = norm(x)
    if add is not None:
        y = add(y, shortcut)
    return act(y)  # type: ignore[no-any-return]


def norm_only(norm: nn.Module, x: Tensor) -> Tensor:
    """norm(x), with nothing behind it, by the fused kernel where it can."""
    if isinstance(norm, BatchNorm2d) and norm.fused and not _is_hooked(norm):
        y = norm.forward_fused(x, None, "none")
        if y is not None:
            y.__dict__.pop("twin", None)  # which nobody takes
            return y
    return norm(x)  # type: ignore[no-any-return]


def make_norm(width: int, net: NetSpec, *, dense: bool = False) -> nn.Module:
    """The network's normalisation for activations of a width."""
    if net.norm is None:
        return nn.Identity()
    kind = nn.BatchNorm1d if dense else BatchNorm2d
    norm = kind(width, eps=net.norm.eps, momentum=net.norm.momentum)
    norm.weight.requires_grad = net.norm.scale
    return norm


def make_layer(width: int, layer: spec.Conv | spec.Dense | spec.MaxPool | spec.Drop, *, bias: bool) -> nn.Module:
    """The module of one layer that takes ``width`` channels."""
    match layer:
        case spec.Conv():
            return Conv2d(
                width, layer.width, layer.kernel, layer.stride, layer.padding,
                dilation=layer.dilation, groups=layer.groups, bias=bias,
            )  # fmt: skip
        case spec.Dense():
            return nn.Linear(width, layer.width, bias=bias)
        case spec.MaxPool():
            return MaxPool2d(layer.kernel, layer.stride)
        case spec.Drop():
            return nn.Dropout(layer.rate)


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
        if _is_hooked(self.downsample):
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
