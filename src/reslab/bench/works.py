"""The work that is timed on our side: a training step, an evaluation, batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reslab.data.images import Dataset, ImageSet, dataset, decoded
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.nets.network import Network, build_any
from reslab.nets.spec import AnyNet
from reslab.train.device import Execution, use_exact_fp32
from reslab.train.inductor import compiled, said_plainly
from reslab.train.loop import Trainer
from reslab.train.recipe import Recipe, Sgd, Steps

What = Literal["train", "infer", "data"]
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


def fixed_batch(case: Case) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) in fp32 and labels (N,), on the device."""
    device = case.execution.device
    shape = (case.batch, case.spec.in_channels, *case.spec.size)
    labels = torch.arange(case.batch, device=device) % case.spec.num_classes
    return torch.randn(shape, device=device), labels


def inference(case: Case) -> Call:
    """Our evaluation of a batch, by a network as it begins."""
    return answering(case, build_any(case.spec))


def answering(case: Case, net: nn.Module) -> Call:
    """Our evaluation of a batch by a network: images (N, C, H, W) -> logits."""
    use_exact_fp32(case.execution.device)
    device = case.execution.device
    net = net.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    if isinstance(net, Network):
        net.fuse(case.execution.fuses)
    answer = compiled(net) if case.execution.compile else net
    images = fixed_batch(case)[0].contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def run() -> Tensor:
        with said_plainly(case.execution.compile), autocast(device, case.precision):
            return answer(images)

    return run


def batches(case: Case) -> Callable[[], Sequence[Tensor]]:
    """Our batches alone: gathered, normalised, shifted and flipped on the device."""
    feed = training(case).feed
    numbers: Iterator[int] = iter(range(2**31))
    return lambda: feed(next(numbers))


def check_batch(batch: int, what: What) -> None:
    """Raises `InputError` for a number of images that nothing could be measured with."""
    least = 2 if what == "train" else 1  # BN has no variance of a single image
    if batch < least:
        raise InputError(f"--batch-size takes {least} or more, got {batch}")


def check(case: Case) -> None:
    """Raises `InputError` where nothing could be measured."""
    if case.spec.size == (1, 1):
        raise InputError(f"'{case.spec.name}' takes vectors; bench is for networks of images")
