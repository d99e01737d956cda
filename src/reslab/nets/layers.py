"""The layers of networks, and BN, addition and activation as one step. Each is a module, called once.

That makes hooks and attribution methods work on every network. Fused execution is a mode on top: `norm_add_act` hands
BN, addition and activation together to one kernel where it can.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.kernels import conv, narrow, pointwise, pool, subsample
from reslab.kernels import norm as norm_kernel
from reslab.kernels.norm import Tracked
from reslab.nets import spec
from reslab.nets.spec import Activation, NetSpec, ZeroPad

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
            raise ValueError(f"a batch of {batch} images cannot be divided into BN groups of {self.group}")
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
        return y

    def _followed(self) -> Tracked | None:
        """The running statistics for the kernel; None where they are a plain average, which `_track` keeps."""
        if self.momentum is None or self.running_mean is None or self.running_var is None:
            return None
        return Tracked(self.running_mean, self.running_var, self.momentum, self.num_batches_tracked)


def shared(x: Tensor) -> Tensor:
    """The activation as the shortcut takes it: the fused kernel's second output, if it comes from there.

    It is taken off the tensor: a tensor that refers to another of the same graph is freed late.
    """
    if torch.compiler.is_compiling():  # which cannot follow attributes of tensors, and runs no kernel of ours
        return x
    twin: Tensor = x.__dict__.pop("twin", x)
    return twin


class Conv2d(nn.Conv2d):
    """A convolution that is computed in a way of our own where that is quicker and the fused mode is on."""

    fused: bool = False
    direct: bool = True
    """False: PyTorch's own kernel, whatever the mode"""
    in_bf16: Tensor | None = None
    """the weight as a training step computes with it, where somebody keeps it, who then takes its gradient"""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        if self.fused and self.direct and x.device.type == "cpu":
            y = x.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else x
            if conv.supports(y, self) and conv.pays(y, self):
                return conv.conv3x3(y, self.weight)
            if pointwise.supports(y, self) and pointwise.pays(y, self):
                down, across = self.stride
                return pointwise.conv1x1(y, self.weight, (down, across))
        kept = self.in_bf16 if self.training and torch.is_grad_enabled() else None
        weight = self.weight if kept is None else kept
        if kept is not None and self.fused and self.direct:
            x = x.to(kept.dtype)  # as autocast does
            if narrow.supports(x, kept, self):
                return narrow.conv3x3(x, kept)
        if conv.is_unsafe(self, x):
            down, across = self.stride
            return F.conv2d(x[..., ::down, ::across], weight, self.bias)
        return self._conv_forward(x, weight, self.bias)  # type: ignore[no-any-return]


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

    fused: bool = False

    def __init__(self, before: int, after: int, stride: int, spec: ZeroPad) -> None:
        super().__init__()
        self.stride = stride
        missing = after - before
        low = missing // 2 if spec.zeros == "both" else 0
        self.padding = (0, 0, 0, 0, low, missing - low)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H/stride, W/stride)."""
        if self.fused and subsample.supports(x):
            *_, low, high = self.padding
            return subsample.subsample(x, self.stride, low, x.shape[1] + low + high)
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


def is_hooked(module: nn.Module | None) -> bool:
    """Whether somebody wants to see a module called."""
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
    """The fused kernel's name of an activation; "none" for those it does not support."""
    if isinstance(act, nn.ReLU):
        return "relu"
    return "gelu" if isinstance(act, nn.GELU) and act.approximate == "none" else "none"


def norm_add_act(norm: nn.Module, x: Tensor, *, add: Add | None, shortcut: Tensor | None, act: nn.Module) -> Tensor:
    """act(norm(x) + shortcut): module by module, or fused where the mode is on and the tensor allows it."""
    # Whoever hooks one of the modules wants to see it called.
    if isinstance(norm, BatchNorm2d) and norm.fused and not any(is_hooked(module) for module in (norm, add, act)):
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
    if isinstance(norm, BatchNorm2d) and norm.fused and not is_hooked(norm):
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
