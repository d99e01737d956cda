"""What is timed: our training step, evaluation and batches, and what other libraries do for the same."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.data.images import Dataset, ImageSet, dataset, decoded
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.nets.network import Network, build_any
from reslab.nets.spec import AnyNet, ReferenceSpec
from reslab.train.device import Execution, use_exact_fp32, use_usual_fp32
from reslab.train.inductor import compiled, said_plainly
from reslab.train.loop import Trainer
from reslab.train.recipe import Recipe, Sgd, Steps
from reslab.weights.export import Library, peer_of

Against = Literal["eager", "torchvision", "timm"]
Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """What is measured: a network, how many images at a time, and where."""

    spec: AnyNet
    batch: int
    execution: Execution
    precision: str
    bn_group: int | None = None
    """images that BN's statistics are of, if not the whole batch"""


def random_images(case: Case) -> Dataset:
    """A data set in memory of the case's shape, four batches large."""
    height, width = case.spec.size
    draw = torch.Generator().manual_seed(0)
    count, classes = 4 * case.batch, max(2, case.spec.num_classes)
    shape = (count, case.spec.in_channels, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
    labels = torch.arange(count) % classes
    whole = ImageSet(images, labels)
    names = tuple(map(str, range(classes)))
    return dataset(decoded(whole, whole, names, where="random images"), name="random", source="random numbers")


def recipe_of(case: Case, data: Dataset) -> Recipe:
    """A plain training, at a rate so low that random images cannot make it diverge."""
    return Recipe(
        name="bench", net=case.spec, data=data.info.spec(normalization="per-channel"), global_batch=case.batch,
        optimizer=Sgd(lr=1e-4), schedule=Steps(drops=()), iterations=2**31, precision=case.precision,
        bn_group=case.bn_group,
    )  # fmt: skip


def training(case: Case) -> Trainer:
    """Our training step, as `reslab train` runs it, batches made anew each time."""
    data = random_images(case)
    trainer = Trainer(recipe_of(case, data), data, case.execution)
    trainer.net.train()
    return trainer


def step_of(case: Case) -> Call:
    """Its step."""
    return training(case).step


def peer_module(case: Case, against: Against) -> nn.Module:
    """The same network as others have it: fp32, channels-first, eager.

    Raises `InputError` if the library has no such network.
    """
    spec = case.spec
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


def _fixed_batch(case: Case) -> tuple[Tensor, Tensor]:
    device = case.execution.device
    shape = (case.batch, case.spec.in_channels, *case.spec.size)
    labels = torch.arange(case.batch, device=device) % case.spec.num_classes
    return torch.randn(shape, device=device), labels


def peer_training(case: Case, against: Against) -> Call:
    """A step as the usual script takes it, its batch ready in memory."""
    use_usual_fp32(case.execution.device)
    net = peer_module(case, against).to(case.execution.device).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    images, labels = _fixed_batch(case)

    def step() -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # a training script prints it

    return step


def inference(case: Case) -> Call:
    """Our evaluation of a batch."""
    use_exact_fp32(case.execution.device)
    device = case.execution.device
    net = build_any(case.spec).to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(case.execution.fuses)
    answer = compiled(net) if case.execution.compile else net
    images = _fixed_batch(case)[0].contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run() -> Tensor:
        with said_plainly(case.execution.compile), autocast(device, case.precision):
            return answer(images)

    return run


def peer_inference(case: Case, against: Against) -> Call:
    """The usual evaluation of a batch."""
    use_usual_fp32(case.execution.device)
    net = peer_module(case, against).to(case.execution.device).eval()
    images, _ = _fixed_batch(case)

    @torch.no_grad()
    def run() -> Tensor:
        return net(images)  # type: ignore[no-any-return]

    return run


def batches(case: Case) -> Callable[[], Sequence[Tensor]]:
    """Our batches alone: gathered, normalised, shifted and flipped on the device."""
    feed = training(case).feed
    numbers: Iterator[int] = iter(range(2**31))
    return lambda: feed(next(numbers))


def peer_batches(case: Case, workers: int) -> Callable[[], Sequence[Tensor]]:
    """The usual loader: Pillow images through torchvision's transforms in worker processes, to the device."""
    from torchvision import transforms

    images = random_images(case).train
    height, width = case.spec.size
    channels = case.spec.in_channels
    usual = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomCrop((height, width), padding=min(height, width) // 8),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * channels, [0.25] * channels),
        ]
    )
    source = _Transformed(images, usual, length=2**31)
    loader = torch.utils.data.DataLoader(source, case.batch, num_workers=workers, pin_memory=False)
    endless = iter(loader)
    return lambda: [part.to(case.execution.device) for part in next(endless)]


class _Transformed(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images in memory, each transformed when it is asked for; after the last comes the first."""

    def __init__(self, images: ImageSet, transform: Callable[[Tensor], Tensor], *, length: int) -> None:
        self.images, self.transform, self.length = images, transform, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        index %= len(self.images)
        return self.transform(self.images.images[index]), int(self.images.labels[index])


def check(case: Case) -> None:
    """Raises `InputError` where nothing could be measured."""
    if case.batch < 2:
        raise InputError(f"--batch-size takes 2 or more, got {case.batch}")
    if case.spec.size == (1, 1):
        raise InputError(f"'{case.spec.name}' takes vectors; bench is for networks of images")
