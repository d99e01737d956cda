"""Other libraries doing the same work: with default settings, and in every way that a practitioner might choose."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.bench.works import Call, Case, fixed_batch, random_images
from reslab.data.images import ImageSet
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.nets.network import build_any
from reslab.nets.spec import AnyNet, ReferenceSpec
from reslab.processes import ending_with_this
from reslab.train.device import keep_freed_memory, use_usual_fp32
from reslab.train.inductor import compiled, freeze, said_plainly
from reslab.weights.export import Library, peer_of

Against = Literal["eager", "torchvision", "timm"]
Numbers = Literal["fp32", "bf16 autocast", "bf16 weights"]


@dataclass(frozen=True)
class Way:
    """How a peer's network is run. As it stands here, it is what a script does that asks for nothing."""

    numbers: Numbers = "fp32"
    channels_last: bool = False
    compiled: bool = False
    keeps_memory: bool = False
    """the C library's thresholds set as ours are (`keep_freed_memory`)"""

    def __str__(self) -> str:
        words = [self.numbers, "channels-last" if self.channels_last else "channels-first"]
        return ", ".join([*words, *(["torch.compile"] if self.compiled else [])])


DEFAULT = Way()


def eager_ways(what: Literal["train", "infer"], *, half: bool) -> list[Way]:
    """Each precision in each memory format; ``half``: the device multiplies bf16 in hardware."""
    numbers: list[Numbers] = ["fp32"]
    if half:
        numbers += ["bf16 autocast"] if what == "train" else ["bf16 autocast", "bf16 weights"]
    return [Way(n, channels_last=last, keeps_memory=True) for n in numbers for last in (False, True)]


def compiled_way(way: Way) -> Way:
    """The same by torch.compile."""
    return replace(way, compiled=True)


def peer_module(spec: AnyNet, against: Against) -> nn.Module:
    """The same network from another library: fp32, channels-first, eager.

    Raises `InputError` if the library has no such network.
    """
    if against == "eager" or isinstance(spec, ReferenceSpec):
        return build_any(spec)
    library: Library = against
    name = peer_of(spec, library)
    if name is None:
        raise InputError(f"{against} has no network that computes what '{spec.name}' does; try --against eager")
    return build_any(
        ReferenceSpec(
            library=library, model=name, name=f"{library}:{name}", num_classes=spec.num_classes,
            in_channels=spec.in_channels, size=spec.size,
        )
    )  # fmt: skip


def _prepared(case: Case, against: Against, way: Way) -> tuple[nn.Module, Tensor, Tensor]:
    """Network, images and labels where and as the way wants them."""
    device = case.execution.device
    use_usual_fp32(device)
    if way.keeps_memory:
        keep_freed_memory()
    net = peer_module(case.spec, against).to(device)
    images, labels = fixed_batch(case)
    if way.channels_last:
        net = net.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    if way.numbers == "bf16 weights":
        net, images = net.bfloat16(), images.bfloat16()
    return net, images, labels


def _context(case: Case, way: Way) -> AbstractContextManager[Any]:
    return autocast(case.execution.device, "bf16") if way.numbers == "bf16 autocast" else nullcontext()


def peer_training(case: Case, against: Against, way: Way = DEFAULT) -> Call:
    """A step as the usual script takes it, its batch ready in memory."""
    net, images, labels = _prepared(case, against, way)
    optimizer = torch.optim.SGD(net.train().parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    forward = compiled(net) if way.compiled else net

    def step() -> None:
        optimizer.zero_grad()
        with said_plainly(way.compiled):
            with _context(case, way):
                loss = F.cross_entropy(forward(images), labels)
            loss.backward()
        optimizer.step()
        loss.item()  # a training script prints it

    return step


def peer_inference(case: Case, against: Against, way: Way = DEFAULT) -> Call:
    """The usual evaluation of a batch. Compiled, weights are constants, as PyTorch advises for inference on CPUs."""
    net, images, _ = _prepared(case, against, way)
    net.eval()
    if way.compiled:
        freeze()
    forward = compiled(net) if way.compiled else net

    @torch.no_grad()
    def run() -> Tensor:
        with said_plainly(way.compiled), _context(case, way):
            return forward(images)

    return run


@dataclass(frozen=True)
class Loading:
    """How a peer makes batches of images in memory."""

    workers: int
    tensors: bool = False
    """transforms of tensors (torchvision's version 2) rather than of Pillow images"""

    def __str__(self) -> str:
        where = f"{self.workers} workers" if self.workers else "no workers"
        return f"{'v2 transforms of tensors' if self.tensors else 'transforms of Pillow images'}, {where}"


def loadings(cores: int) -> list[Loading]:
    """Each kind of transforms, in the process itself, in one beside it, and in one a core."""
    return [Loading(workers, tensors) for tensors in (False, True) for workers in sorted({0, 1, cores})]


class PeerBatches:
    """The usual loader: images one by one through torchvision's transforms, in worker processes, to the device."""

    AHEAD = 2
    """Batches that each worker makes beforehand, PyTorch's default."""

    def __init__(self, case: Case, loading: Loading) -> None:
        height, width = case.spec.size
        channels = case.spec.in_channels
        source = _Transformed(
            random_images(case).train, _transforms((height, width), channels, loading.tensors), length=2**31
        )
        self.ahead = self.AHEAD * loading.workers
        loader = torch.utils.data.DataLoader(
            source, case.batch, num_workers=loading.workers, prefetch_factor=self.AHEAD if loading.workers else None,
            worker_init_fn=ending_with_this() if loading.workers else None,
        )  # fmt: skip
        self.batches, self.device = iter(loader), case.execution.device

    def __call__(self) -> Sequence[Tensor]:
        """The next batch: images (N, C, H, W) and labels (N,)."""
        return [part.to(self.device) for part in next(self.batches)]

    def begin(self) -> None:
        """Takes what the workers had made before a turn began, which its time would not show."""
        for _ in range(self.ahead):
            self()

    def rest(self, seconds: float) -> float:
        """Until the workers have made what they may make ahead."""
        return 1.5 * self.ahead * seconds


def _transforms(size: tuple[int, int], channels: int, tensors: bool) -> Any:  # which torchvision does not type
    pad = min(size) // 8
    mean, std = [0.5] * channels, [0.25] * channels
    if tensors:
        from torchvision.transforms import v2

        return v2.Compose(
            [
                v2.RandomCrop(size, padding=pad), v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std),
            ]
        )  # fmt: skip
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.ToPILImage(), transforms.RandomCrop(size, padding=pad), transforms.RandomHorizontalFlip(),
            transforms.ToTensor(), transforms.Normalize(mean, std),
        ]
    )  # fmt: skip


class _Transformed(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images in memory, each transformed when it is asked for; after the last comes the first."""

    def __init__(self, images: ImageSet, transform: Callable[[Tensor], Tensor], *, length: int) -> None:
        self.images, self.transform, self.length = images, transform, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index %= len(self.images)
        return self.transform(self.images.images[index]), int(self.images.labels[index])
