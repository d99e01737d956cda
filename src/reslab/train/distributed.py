"""Several processes, on one machine or many, that train one network together: the ranks of `torchrun`.

    torchrun --nproc-per-node 2 -m reslab train he2015_cifar --data cifar10 --out runs/resnet20

Each rank takes its share of every batch, and gradients are averaged over the ranks. The batch and the group
that BN takes its statistics over are the recipe's, so any number of ranks trains the same within rounding.
"""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from reslab.errors import InputError, first_line

if TYPE_CHECKING:
    from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others before it takes them for lost."""
LOST = ("gloo", "nccl", "connection closed by peer", "connection reset", "broken pipe")
"""Words in the error of a collective operation that one of the ranks did not come to."""


@dataclass(frozen=True)
class World:
    """The ranks of a training, and which of them this is. By default it is alone."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this rank reads and writes the run's folder."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    def share(self, x: Tensor) -> Tensor:
        """This rank's part of a batch (N, ...): N / size consecutive rows."""
        count = len(x) // self.size
        return x[self.rank * count : (self.rank + 1) * count]

    def total(self, x: Tensor) -> Tensor:
        """The sum over the ranks, in place."""
        if not self.alone:
            dist.all_reduce(x)
        return x

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Their means over the ranks, in place, in one message."""
        if self.alone or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.total(flat).div_(self.size)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view(tensor.shape))

    def least(self, x: Tensor) -> Tensor:
        """The smallest over the ranks, in place."""
        if not self.alone:
            dist.all_reduce(x, dist.ReduceOp.MIN)
        return x

    def wait(self) -> None:
        """Until all ranks are here. Raises `InputError` where one is gone."""
        if self.alone:
            return
        try:
            dist.barrier()
        except RuntimeError as error:
            if not is_loss(error):
                raise
            raise lost(error, 0) from None

    def from_lead(self, value: T) -> T:
        """The leading rank's value, on every rank."""
        if self.alone:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[no-any-return]

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on every rank."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def agree(self, facts: Mapping[str, str]) -> None:
        """Raises `InputError`, on every rank, unless all ranks have the same facts."""
        found = self.gathered(dict(facts))
        for name in facts:
            values = [other.get(name, "nothing") for other in found]
            if len(set(values)) > 1:
                first = next(rank for rank, value in enumerate(values) if value != values[0])
                raise InputError(
                    f"the ranks differ in their {name}: {values[0]} on rank 0, {values[first]} on rank {first}; "
                    "start them all by the same command, on the same data, with the same versions"
                )


ALONE = World()


def overlapping(net: nn.Module) -> "DistributedDataParallel":
    """A network whose gradients are averaged over the ranks while the backward pass goes on: for GPUs.

    On the CPU, whose cores have no time left over, `World.average` does it afterwards in one go, and saves the seconds
    in which DistributedDataParallel imports the compiler. BN's statistics are averaged by `Trainer.settle`.
    """

    from torch.nn.parallel import DistributedDataParallel

    known = inspect.signature(DistributedDataParallel.__init__).parameters
    quiet = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before PyTorch 2.15
    options: dict[str, Any] = {quiet: False, "gradient_as_bucket_view": True}
    return DistributedDataParallel(net, **options)


def launched() -> bool:
    """Whether `torchrun` (or another launcher) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def ranks_here() -> int:
    """How many of the processes run on this machine and share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int:
    """Which of the processes of this machine this is: it picks the GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """The world that the launcher's environment describes; alone where there is none.

    Raises `InputError` where the other ranks cannot be reached.
    """
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # objects, and pinned memory, go through the current device
    if not launched():
        yield ALONE
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the other ranks cannot be reached: {first_line(error)}; start all of them") from None
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def is_loss(error: RuntimeError) -> bool:
    """Whether an error says that another rank is gone, rather than what is wrong here."""
    text = str(error).lower()
    return isinstance(error, dist.DistBackendError | dist.DistError) or any(word in text for word in LOST)


def lost(error: RuntimeError, iteration: int) -> InputError:
    """The error for a lost rank."""
    what = f"another rank ended or did not answer at iteration {iteration} ({first_line(error)})"
    if iteration == 0:
        return InputError(f"{what}; see what that rank says, then start all of them again")
    return InputError(f"{what}; start all ranks by the same command again, and they go on from the last checkpoint")
