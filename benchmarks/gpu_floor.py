"""What a training step cannot do without on a GPU: bytes, operations, kernels, and the time that follows from them.

    python benchmarks/gpu_floor.py [--out results/gpu_floor.json]     the tables of docs/gpu.md, and their figures

Nothing is measured and no GPU is needed. Bytes and operations follow from the shapes of a network's activations, kernel
by kernel, as the fused mode runs them: convolutions forward and twice backward, BN in two passes each way, one kernel
that casts the weights, one that updates them. Every kernel reads its operands and writes its results once, in bf16.

Kernels are counted as PyTorch dispatches them in a step of the trainer itself, on tensors that are too small to take
time: an operator is one kernel but for those of `KERNELS`, and those that only look at memory in another way.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from reslab import recipes, runs
from reslab.data.sources import load
from reslab.data.transforms import OnGpu
from reslab.kernels import gpu, narrow
from reslab.nets.layers import Add, BatchNorm2d, GlobalAveragePool, MaxPool2d, Pad
from reslab.nets.network import build
from reslab.recipes.he2015_cifar import he2015_cifar
from reslab.train.device import Execution
from reslab.train.feed import InMemory
from reslab.train.trainer import Trainer

BANDWIDTH, RATE = 2.9e12, 700e12
"""Of an H100 as it was measured (results/gpu): a copy's bytes a second, a bf16 matrix product's operations a second."""
SHORTEST, GAP = 0.93e-6, (3.47e-3 - 3.018e-3) / 1034
"""Seconds that the shortest kernel of a captured step took there, and those between one kernel and the next."""
FAST = "fast_cifar94"
"""The recipe of 94 %, whose network and updates are its own."""
HALF, SINGLE = 2, 4
"""Bytes of a number."""


@dataclass(frozen=True)
class Kernel:
    """One launch: the bytes that it reads and writes, and its floating-point operations."""

    what: str
    bytes: int
    flops: int = 0

    @property
    def seconds(self) -> float:
        """The least that memory and arithmetic allow."""
        return max(self.bytes / BANDWIDTH, self.flops / RATE)


# --- bytes and operations --------------------------------------------------------------------------------------------


class _Recorder:
    """Sees the layers called, on tensors without numbers, and notes the kernels of forward and backward."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []
        self.norms: list[tuple[Tensor, bool, bool]] = []

    def conv(self, layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        x, weights = given[0], layer.weight.numel()
        positions = y.numel() // layer.weight.shape[0]
        flops = 2 * weights * positions
        name = "convolution" if isinstance(layer, nn.Conv2d) else "last layer"
        moved = HALF * (x.numel() + weights + y.numel())
        self.kernels.append(Kernel(f"{name} forward", moved, flops))
        self.kernels.append(Kernel(f"{name} backward, weights", moved, flops))
        if x.shape[1] > 3 or isinstance(layer, nn.Linear):  # nobody asks for the gradient of images
            self.kernels.append(Kernel(f"{name} backward, input", moved, flops))

    def norm(self, x: Tensor, residual: Tensor | None, activation: str) -> Tensor:
        y = torch.empty_like(x)
        y.twin = torch.empty_like(x)  # type: ignore[attr-defined]
        self.norms.append((y, residual is not None, activation != "none"))
        return y

    def other(self, layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
        moved = HALF * (given[0].numel() + y.numel())
        self.kernels += [Kernel(f"{type(layer).__name__} {way}", moved) for way in ("forward", "backward")]

    def finish(self) -> list[Kernel]:
        """With BN's, once it is known whose second output was taken by a shortcut."""
        for y, added, acts in self.norms:
            one, twice = HALF * y.numel(), "twin" not in y.__dict__
            # Behind an addition y says where ReLU was open; else it follows from x.
            seen = added and acts
            looked = 2 + seen + twice
            self.kernels += [
                Kernel("BN forward, statistics", one),
                Kernel("BN forward, normalise, add, ReLU", one * (2 + added)),
                Kernel("BN backward, sums", one * looked),
                Kernel("BN backward, gradients", one * (looked + 1 + added)),
            ]
        return self.kernels


def _name(net: str) -> str:
    """The network; of a recipe the one that it trains."""
    return recipes.find(net).net if net == FAST else net


def step(net: str, batch: int, size: tuple[int, int] | None = None) -> list[Kernel]:
    """The kernels that move activations or weights in a training step."""
    made, seen = build(_name(net)), _Recorder()
    height, width = size or made.spec.size
    images, parameters = batch * made.spec.in_channels * height * width, sum(p.numel() for p in made.parameters())
    made = made.to("meta").train()
    for module in made.modules():
        if isinstance(module, BatchNorm2d):
            module.fused = True
            module.forward_fused = seen.norm  # type: ignore[method-assign]
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(seen.conv)
        elif isinstance(module, MaxPool2d | GlobalAveragePool | Pad):
            module.register_forward_hook(seen.other)
        assert not isinstance(module, Add) or not module._forward_hooks
    made(torch.empty(batch, made.spec.in_channels, height, width, device="meta"))
    return [
        Kernel("batch: gather, shift, mirror, normalise", images * (1 + HALF)),
        Kernel("weights to bf16", parameters * (SINGLE + HALF)),
        *seen.finish(),
        Kernel("SGD: weight, velocity, gradient", parameters * (4 * SINGLE + HALF)),
    ]


# --- kernels ---------------------------------------------------------------------------------------------------------

NONE = (
    "view", "_unsafe_view", "reshape", "_reshape_alias", "t", "transpose", "permute", "expand", "slice", "select",
    "unsqueeze", "squeeze", "alias", "detach", "as_strided", "split", "unbind", "empty", "empty_like", "empty_strided",
    "new_empty", "new_empty_strided", "lift_fresh",
)  # fmt: skip
"""Operators that launch nothing."""
KERNELS = {
    "native_batch_norm": 3, "_native_batch_norm_legit": 3, "native_batch_norm_backward": 2, "nll_loss_backward": 2,
    "constant_pad_nd": 2, "slice_backward": 2, "select_backward": 2, "zeros_like": 1, "cudnn_batch_norm": 1,
}  # fmt: skip
"""Operators that launch several: statistics, running statistics and normalising; a fill and a copy."""


class _Counter(TorchDispatchMode):
    """Counts what PyTorch would launch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = op._schema.name.partition("::")[2]
        if name == "convolution_backward":
            self.seen[name] += sum(map(bool, args[10]))
        elif name not in NONE:
            self.seen[name] += KERNELS.get(name, 1)
        return op(*args, **(kwargs or {}))


class _Stand:
    """In place of the Triton kernels: as many launches, and no work."""

    NONE, RELU, GELU = 0, 1, 2

    def __init__(self, seen: Counter[str]) -> None:
        self.seen = seen

    def forward(self, x: Tensor, *_: Any, groups: int, **__: Any) -> tuple[Tensor, Tensor]:
        self.seen["our BN"] += 2
        return torch.empty_like(x), torch.empty(3, groups, x.shape[1])

    def backward(self, grad: Tensor, *given: Any, has_residual: bool, **_: Any) -> tuple[Tensor | None, ...]:
        self.seen["our BN"] += 2
        weight = given[3]
        other = torch.empty_like(grad) if has_residual else None
        return torch.empty_like(grad), other, torch.empty_like(weight), torch.empty_like(weight)


def _like(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)


class _Pooling:
    """In place of those of max pooling."""

    def __init__(self, seen: Counter[str]) -> None:
        self.seen = seen

    def forward(self, x: Tensor, side: int, pad: int) -> tuple[Tensor, Tensor]:
        self.seen["our pooling"] += 1
        y = _like(x, *x.shape[:2], *((pixels + 2 * pad - side) // 2 + 1 for pixels in x.shape[2:]))
        return y, torch.empty_like(y, dtype=torch.uint8)

    def backward(self, grad: Tensor, _: Tensor, shape: torch.Size, *__: int) -> Tensor:
        self.seen["our pooling"] += 1
        return _like(grad, *shape)


class _Convolutions:
    """In place of those of narrow convolutions, each of which is taken to be the quicker one."""

    WIDTHS, TAKEN = (16, 32, 64), (3, 16, 32, 64)

    def __init__(self, seen: Counter[str]) -> None:
        self.seen = seen

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        self.seen["our convolution"] += 1
        return _like(x, len(x), len(weight), *x.shape[2:])

    def backward_x(self, grad: Tensor, weight: Tensor) -> Tensor:
        self.seen["our convolution"] += 1
        return _like(grad, len(grad), weight.shape[1], *grad.shape[2:])

    def backward_weight(self, x: Tensor, grad: Tensor) -> Tensor:
        self.seen["our convolution"] += 2
        return _like(x, grad.shape[1], x.shape[1], 3, 3)


@contextmanager
def _as_on_a_gpu(counter: _Counter) -> Iterator[None]:
    stand = _Stand(counter.seen)

    def batch(images: Tensor, *_: Any) -> Callable[[Tensor, Tensor], Tensor]:
        def made(index: Tensor, epoch: Tensor) -> Tensor:
            counter.seen["our batch"] += 1
            return torch.empty(len(index), *images.shape[1:], memory_format=torch.channels_last)

        return made

    with (
        mock.patch.object(OnGpu, "usable", batch),
        mock.patch.object(Execution, "packs", True),
        mock.patch.object(gpu, "usable", return_value=True),
        mock.patch.object(gpu, "takes", return_value=True),
        mock.patch.object(gpu, "kernels", return_value=stand),
        mock.patch.object(gpu, "pooling", return_value=_Pooling(counter.seen)),
        mock.patch.object(gpu, "convolutions", return_value=_Convolutions(counter.seen)),
        mock.patch.object(narrow, "_own", return_value=True),
    ):
        yield


def launches(net: str, *, fused: bool, bn_groups: int = 2) -> Counter[str]:
    """How often a step of the CIFAR recipe launches what; its batch is in groups for BN. Or of `FAST`, a recipe."""
    data, counter = load("synthetic"), _Counter()
    if net == FAST:
        recipe = recipes.find(net).make(_name(net), data.info, seed=0)
        recipe = recipe.model_copy(update={"global_batch": 8, "precision": "bf16"})
    else:
        recipe = he2015_cifar(net, data.info, iterations=8, batch=2 * bn_groups)
        recipe = recipe.model_copy(update={"bn_group": recipe.global_batch // bn_groups, "precision": "bf16"})
    on: Callable[[_Counter], Any] = _as_on_a_gpu if fused else lambda _: nullcontext()
    with mock.patch.dict("os.environ", RESLAB_KERNELS="library"), on(counter):
        trainer = Trainer(recipe, data, Execution(torch.device("cpu"), fused=fused))
        trainer.net.train()
        trainer.step()  # velocities are there from now on
        assert isinstance(trainer.feed, InMemory)
        counter.seen.clear()
        with counter:  # a graph is given its images' numbers, and then replayed
            index, epoch = (torch.empty_like(each).copy_(each) for each in trainer.feed.positions(1))
            trainer._whole_step(index, epoch)
    return counter.seen


# --- what is said ----------------------------------------------------------------------------------------------------

CASES: tuple[tuple[str, int, tuple[int, int] | None], ...] = (
    ("resnet20", 128, None), ("resnet110", 128, None), (FAST, 500, None), ("resnet50", 256, (224, 224)),
)  # fmt: skip
MEASURED = {"resnet20": 3.47e-3, "resnet110": 15.4e-3, FAST: 5.19 / 1400, "resnet50": 256 / 3946}
"""Seconds of a captured step before any of this (results/gpu)."""


@dataclass(frozen=True)
class Floor:
    """What a step takes at the least."""

    net: str
    batch: int
    kernels: tuple[Kernel, ...]
    by_modules: int | None
    """launches of a step of PyTorch's own kernels, of CIFAR's networks"""
    launches: int | None
    """launches of the fused mode"""

    @classmethod
    def of(cls, net: str, batch: int, size: tuple[int, int] | None) -> "Floor":
        """Counts a network."""
        counts = [sum(launches(net, fused=on).values()) if size is None else None for on in (False, True)]
        return cls(net, batch, tuple(step(net, batch, size)), *counts)

    def part(self, *kinds: str) -> float:
        """Seconds of the kernels whose name begins so."""
        return sum(kernel.seconds for kernel in self.kernels if kernel.what.startswith(kinds))

    @property
    def bytes(self) -> int:
        """That are read and written."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Two for each multiply-add, forward and twice backward."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def seconds(self) -> float:
        """Kernel by kernel what memory and arithmetic allow, whichever is the longer."""
        return sum(kernel.seconds for kernel in self.kernels)

    @property
    def with_launches(self) -> float | None:
        """With what each launch takes beside: none is shorter than the shortest, and there is a gap behind each."""
        if self.launches is None:
            return None
        small = max(0, self.launches - len(self.kernels))
        own = sum(max(kernel.seconds, SHORTEST) for kernel in self.kernels)
        return own + small * SHORTEST + self.launches * GAP

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        kinds = {kernel.what for kernel in self.kernels}
        return {
            "net": self.net, "batch": self.batch, "bytes": self.bytes, "flops": self.flops,
            "seconds_by_bytes": self.bytes / BANDWIDTH, "seconds_by_flops": self.flops / RATE,
            "seconds": self.seconds, "seconds_of": {kind: self.part(kind) for kind in sorted(kinds)},
            "launches_by_modules": self.by_modules, "launches": self.launches,
            "seconds_with_launches": self.with_launches,
        }  # fmt: skip


def tables(floors: Sequence[Floor]) -> str:
    """The figures as docs/gpu.md has them."""

    def ms(seconds: float | None) -> str:
        return "" if seconds is None else f"{1e3 * seconds:.2f} ms"

    rows: list[tuple[str, Callable[[Floor], str]]] = [
        ("read and written", lambda f: f"{f.bytes / 1e9:.2f} GB"),
        ("operations", lambda f: f"{f.flops / 1e12:.3f} T"),
        ("bytes at 2.9 TB/s", lambda f: ms(f.bytes / BANDWIDTH)),
        ("operations at 700 TFLOP/s", lambda f: ms(f.flops / RATE)),
        ("**floor**: the longer of both, kernel by kernel", lambda f: f"**{ms(f.seconds)}**"),
        ("of that convolutions", lambda f: ms(f.part("convolution", "last layer"))),
        ("of that BN, addition, ReLU", lambda f: ms(f.part("BN"))),
        ("launches, PyTorch's own kernels", lambda f: "" if f.by_modules is None else f"{f.by_modules:,}"),
        ("launches, fused", lambda f: "" if f.launches is None else f"{f.launches:,}"),
        ("**floor with launches**", lambda f: "" if f.launches is None else f"**{ms(f.with_launches)}**"),
        ("images a second at the floor", lambda f: f"{f.batch / (f.with_launches or f.seconds):,.0f}"),
        ("a step that was measured, before", lambda f: ms(MEASURED[f.net])),
    ]
    lines = ["| | " + " | ".join(f"{f.net}, batch {f.batch}" for f in floors) + " |", "|---|" + "---|" * len(floors)]
    lines += [f"| {name} | " + " | ".join(map(cell, floors)) + " |" for name, cell in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file of the same figures")
    options = parser.parse_args()
    floors = [Floor.of(*case) for case in CASES]
    print(tables(floors))
    if options.out:
        about = {
            "command": "python benchmarks/gpu_floor.py",
            "bandwidth": BANDWIDTH,
            "rate": RATE,
            "shortest": SHORTEST,
        }
        runs.write_json(options.out, about | {"gap": GAP, "steps": [floor.record() for floor in floors]})


if __name__ == "__main__":
    main()
