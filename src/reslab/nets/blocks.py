"""The modules that networks are built from. Each ReLU and each addition is a module, called once.

That makes hooks and attribution methods work on every network. Fused execution is a mode on top: a
block hands BN, addition and ReLU together to `norm_add_act`, which runs one kernel where it can.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.nets import fused
from reslab.nets.spec import Activation, Identity, NetSpec, NoShortcut, Projection, ZeroPad, branch_convs
from reslab.nets.spec import Block as BlockSpec

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

    def forward_fused(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor | None:
        """act(BN(x) + residual) by the fused kernel, or None where it does not apply."""
        groups = self.groups_of(x.shape[0]) if self.training else 1
        if self.weight.dtype != torch.float32 or not fused.supports(x, groups):
            return None  # the kernel reads fp32 parameters and statistics, whatever the activation
        assert self.running_mean is not None
        assert self.running_var is not None
        if not self.training:
            if torch.is_grad_enabled():
                return None
            return fused.norm_inference(
                x,
                residual,
                self.weight,
                self.bias,
                self.running_mean,
                self.running_var,
                eps=self.eps,
                relu=relu,
            )
        y, mean, var = fused.norm_training(x, residual, self.weight, self.bias, eps=self.eps, groups=groups, relu=relu)
        count = x.numel() // (x.shape[1] * groups)
        self._track(mean.mean(0), var.mean(0) * (count / (count - 1)))
        return y


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


def norm_add_act(norm: BatchNorm2d, x: Tensor, *, add: Add | None, shortcut: Tensor | None, act: nn.Module) -> Tensor:
    """act(norm(x) + shortcut): module by module, or fused where the mode is on and the tensor allows it."""
    # Whoever hooks one of the modules wants to see it called.
    if norm.fused and not any(_is_hooked(module) for module in (norm, add, act)):
        relu = isinstance(act, nn.ReLU)
        y = norm.forward_fused(x, shortcut, relu)
        if y is not None:
            return y if relu else act(y)
    y = norm(x)
    if add is not None:
        y = add(y, shortcut)
    return act(y)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Branch of convolutions, shortcut, addition, activation, under torchvision's parameter names."""

    def __init__(self, before: int, spec: BlockSpec, net: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.convs = len(branch_convs(spec))
        width = before
        for i, conv in enumerate(branch_convs(spec), 1):
            setattr(
                self,
                f"conv{i}",
                nn.Conv2d(width, conv.width, conv.kernel, conv.stride, conv.kernel // 2, bias=False),
            )
            setattr(self, f"bn{i}", BatchNorm2d(conv.width, eps=net.norm.eps, momentum=net.norm.momentum))
            setattr(self, f"relu{i}", ACTIVATIONS[net.activation]())
            width = conv.width
        self.has_shortcut = not isinstance(spec.shortcut, NoShortcut)
        self.add = Add() if self.has_shortcut else None
        self.downsample: nn.Module | None = None
        match spec.shortcut:
            case ZeroPad():
                self.downsample = Pad(before, spec.width, spec.stride, spec.shortcut)
            case Projection():
                norm = BatchNorm2d(spec.width, eps=net.norm.eps, momentum=net.norm.momentum)
                self.downsample = nn.Sequential(nn.Conv2d(before, spec.width, 1, spec.stride, bias=False), norm)
            case Identity() | NoShortcut():
                pass

    @property
    def last_norm(self) -> BatchNorm2d:
        """The BN at the end of the branch."""
        norm = getattr(self, f"bn{self.convs}")
        assert isinstance(norm, BatchNorm2d)
        return norm

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H/stride, W/stride)."""
        y = x
        for i in range(1, self.convs + 1):
            last = i == self.convs
            shortcut = None
            if last and self.has_shortcut:
                shortcut = x if self.downsample is None else self.downsample(x)
            y = norm_add_act(
                getattr(self, f"bn{i}"),
                getattr(self, f"conv{i}")(y),
                add=self.add if last else None,
                shortcut=shortcut,
                act=getattr(self, f"relu{i}"),
            )
        return y
