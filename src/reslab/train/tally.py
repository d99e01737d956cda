"""Counters of training: losses and errors of a window, time, and BN's statistics over parts of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reslab.train.distributed import World


@dataclass
class Window:
    """Sums over the iterations since the last look, on the device so that a step never waits for the host."""

    loss: Tensor
    wrong: Tensor
    seen: int = 0

    @classmethod
    def empty(cls, device: torch.device) -> "Window":
        """Nothing seen yet."""
        return cls(
            torch.zeros((), dtype=torch.float64, device=device),
            torch.zeros((), dtype=torch.int64, device=device),
        )

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch: its mean loss, and how many images were classified wrongly. ``seen`` is the caller's.

        Of images that were mixed, labels (N,) are of the one that has the greater share.
        """
        self.loss.add_(loss.detach().double() * len(labels))
        self.wrong.add_((logits.detach().argmax(1) != labels).sum())

    def over(self, world: World) -> "Window":
        """The sums over all ranks."""
        if world.alone:
            return self
        sums = torch.stack([self.loss, self.wrong.double(), self.loss.new_tensor(self.seen)])
        loss, wrong, seen = world.total(sums)
        return Window(loss, wrong.long(), int(seen))

    def clear(self) -> None:
        """Forgets all, in place: a captured step goes on adding to the same numbers."""
        self.loss.zero_()
        self.wrong.zero_()
        self.seen = 0

    def mean_loss(self) -> float:
        """Mean loss of the window."""
        return float(self.loss) / max(self.seen, 1)

    def error(self) -> float:
        """Training error of the window in per cent, on the augmented images as they were trained on."""
        return 100 * int(self.wrong) / max(self.seen, 1)


class Averaged:
    """BN's running statistics while a batch is worked through in parts: they move once, by the mean of the parts."""

    def __init__(self, net: nn.Module) -> None:
        self.buffers = list(net.buffers())
        self.before = [buffer.clone() for buffer in self.buffers]
        self.after = [torch.zeros_like(buffer) for buffer in self.buffers]
        self.parts = 0

    def take(self, *, last: bool) -> None:
        """Records and undoes each part's update of BN's statistics; after the last part, applies all at once."""
        self.parts += 1
        for buffer, before, after in zip(self.buffers, self.before, self.after, strict=True):
            after.add_(buffer)
            if not last:
                buffer.copy_(before)
            elif buffer.is_floating_point():
                buffer.copy_(after / self.parts)


@dataclass
class Clock:
    """Time spent in training steps and, of that, on making batches."""

    steps: float = 0.0
    data: float = 0.0
    images: int = 0

    @property
    def images_per_second(self) -> float:
        """Throughput of the training steps, evaluations not counted."""
        return self.images / self.steps if self.steps else 0.0

    @property
    def waiting(self) -> float:
        """Share of the time that went into data, 0 to 1."""
        return self.data / self.steps if self.steps else 0.0
