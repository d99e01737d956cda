"""One training of a detector under way: its network, its pictures, and the state that a checkpoint holds."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from reslab.data.draws import bits
from reslab.detect.annotations.types import Annotations, Picture
from reslab.detect.feed import Feed
from reslab.detect.networks import Detector, build_detector
from reslab.detect.recipe import DetectRecipe
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast
from reslab.nets.network import Network
from reslab.train.device import Execution, resolve_precision, use_deterministic_kernels, use_exact_fp32
from reslab.train.optim import Optimizer
from reslab.train.schedule import scheduled
from reslab.train.trainer import NonFiniteLoss

_STEP = 92  # which random numbers they are
State = tuple[dict[str, Tensor], dict[str, Any]]


def learnt_from(data: Annotations, recipe: DetectRecipe) -> tuple[Picture, ...]:
    """The training pictures of a recipe."""
    more = data.splits.get("val", ()) if recipe.learns == "trainval" else ()
    return (*data.pictures("train"), *more)


@contextmanager
def drawing(seed: int, iteration: int) -> Iterator[None]:
    """What torchvision draws in a step (which regions it learns from, scales) comes from the seed and the step."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(bits(torch.tensor(iteration), seed, _STEP)))
        yield


class Trainer:
    """One run. `reslab.detect.loop.train` is the function to call; this holds its parts."""

    def __init__(self, recipe: DetectRecipe, pictures: Sequence[Picture], execution: Execution) -> None:
        self.device = execution.device
        if execution.deterministic:
            use_deterministic_kernels(self.device)
        use_exact_fp32(self.device)
        self.recipe = recipe
        self.precision = resolve_precision(recipe.precision, self.device)
        self.detector: Detector = build_detector(recipe.detector, seed=recipe.seed).to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        body = getattr(self.detector.model.backbone, "body", None)
        if isinstance(body, Network):
            body.fuse(execution.fuses)
        if recipe.scales:
            self.detector.model.transform.min_size = recipe.scales
        self.feed = Feed(pictures, recipe.batch, flip=recipe.flip, seed=recipe.seed)
        self.optimizer = Optimizer.of(self.detector, recipe.optimizer)
        self.iteration = 0
        self.sums: dict[str, float] = {}
        """each loss, added up over the steps since it was last recorded"""
        self.steps = 0
        self.detector.train()

    def step(self) -> float:
        """One step; returns its loss. Raises `NonFiniteLoss` naming step and pictures."""
        recipe, i = self.recipe, self.iteration
        self.optimizer.set_lr(scheduled(recipe.optimizer.lr, recipe.schedule, i, recipe.iterations))
        images, targets = self.feed.take(i, self.device)
        with drawing(recipe.seed, i):
            losses = self._losses(images, targets)
            loss = torch.stack(list(losses.values())).sum()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise NonFiniteLoss(self._why(images, targets, losses))
            loss.backward()
        self.optimizer.step()
        self.iteration += 1
        for name, part in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(part.detach())
        self.steps += 1
        return value

    def _losses(self, images: list[Tensor], targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        with autocast(self.device, self.precision):
            losses = self.detector(images, targets)
        assert isinstance(losses, dict)
        return {name: part.float() for name, part in losses.items()}

    @torch.no_grad()
    def _why(self, images: list[Tensor], targets: list[dict[str, Tensor]], losses: dict[str, Tensor]) -> str:
        """Which pictures give a loss that is not finite by themselves; all of the step, where none does."""
        names = [self.feed.pictures[index].name for index, _ in self.feed.chosen(self.iteration)]
        guilty = []
        for name, image, one in zip(names, images, targets, strict=True):
            if not all(bool(part.isfinite()) for part in self._losses([image], [one]).values()):
                guilty.append(name)
        parts = ", ".join(name for name, part in losses.items() if not part.isfinite())
        whose = "picture" if len(guilty or names) == 1 else "pictures"
        return (
            f"expected a finite loss at iteration {self.iteration + 1}, got none ({parts or 'their sum'}) from the "
            f"{whose} {', '.join(guilty or names)}; look at the boxes there, or take a lower rate (--lr, now "
            f"{self.optimizer.lr:g}) or --precision fp32"
        )

    def recorded(self) -> dict[str, Any]:
        """A line of the metrics: the mean losses since the last one."""
        losses = {name: total / self.steps for name, total in self.sums.items()}
        line = {
            "iteration": self.iteration,
            "epoch": round(self.iteration * self.recipe.batch / len(self.feed.pictures), 4),
            "lr": self.optimizer.lr,
            "train_loss": sum(losses.values()),
            **losses,
        }
        self.sums, self.steps = {}, 0
        return line

    def state(self) -> State:
        """All that a resumed run needs to equal an uninterrupted one."""
        tensors = {f"model.{name}": tensor for name, tensor in self.detector.model.state_dict().items()}
        tensors |= {f"momentum.{name}": tensor for name, tensor in self.optimizer.momentum().items()}
        return tensors, {"lr": self.optimizer.lr, "sums": self.sums, "steps": self.steps}

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Continues from a checkpoint."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)}

        try:
            self.detector.model.load_state_dict(part("model."))
        except RuntimeError:
            raise InputError("the checkpoint is of another detector; it belongs to another run") from None
        self.optimizer.restore(meta["lr"], part("momentum."))
        self.sums, self.steps, self.iteration = dict(meta["sums"]), meta["steps"], meta["iteration"]
