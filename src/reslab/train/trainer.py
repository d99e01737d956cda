"""One training under way: network, batches, optimiser, and the state that a checkpoint holds."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reslab.data.draws import bits
from reslab.data.sources import AnyDataset
from reslab.errors import InputError
from reslab.evaluate.metrics import Result, autocast
from reslab.nets.layers import DropPath
from reslab.nets.network import Network, build_any
from reslab.nets.spec import WhiteningStem
from reslab.train.device import (
    Execution,
    keep_freed_memory,
    resolve_precision,
    use_deterministic_kernels,
    use_exact_fp32,
)
from reslab.train.distributed import overlapping
from reslab.train.feed import InMemory, feed_of
from reslab.train.graph import Graphed
from reslab.train.inductor import compiled, said_plainly
from reslab.train.memory import Account, Plan, account, plan
from reslab.train.optim import MuonOptimizer, Optimizer, make_optimizer
from reslab.train.packed import Packed
from reslab.train.partial import Partial
from reslab.train.recipe import Plateau, Recipe, Sgd
from reslab.train.schedule import PlateauState, WarmUpState, scheduled
from reslab.train.sharing import ranks_of_group, why_not_shared
from reslab.train.sync import synchronise
from reslab.train.tally import Averaged, Clock, Window
from reslab.train.turns import rest
from reslab.weights.load import Weights, header_of

WHITENED = 5000
"""Training images that the filters of a whitening stem are taken from."""
_DROPOUT, _MIXED = 71, 72  # which random numbers they are, among those of an iteration


class NonFiniteLoss(InputError):
    """The loss became infinite or not a number."""


def mixing(alpha: float, seed: int, iteration: int) -> float:
    """The share of the first of two mixed images, 0.5 to 1: a draw from Beta(alpha, alpha), or 1 minus it.

    Batches are in an order of chance, so that image i is mixed with image N - 1 - i.
    """
    drawn = float(np.random.Generator(np.random.Philox(key=[seed, iteration + (_MIXED << 48)])).beta(alpha, alpha))
    return max(drawn, 1 - drawn)


def balanced(labels: Tensor, classes: int) -> Tensor:
    """Weights of the loss by class (classes,): N / (classes with images * images of the class); mean 1 over images."""
    counts = labels.bincount(minlength=classes).float()
    there = counts > 0
    return torch.where(there, len(labels) / (there.sum() * counts.clamp_min(1)), torch.zeros_like(counts))


class Trainer:
    """One run. `train` is the function to call; this holds its parts."""

    def __init__(self, recipe: Recipe, data: AnyDataset, execution: Execution) -> None:
        self.device = execution.device
        if execution.deterministic:
            use_deterministic_kernels(self.device)
        use_exact_fp32(self.device)
        self.recipe = recipe.model_copy(update={"precision": resolve_precision(recipe.precision, self.device)})
        self.feed = feed_of(recipe, data, execution)
        self.preprocessing = self.feed.preprocessing
        self.validation, self.test = self.feed.validation, self.feed.test
        self.classes = data.info.classes
        self.execution, self.world, self.accumulate = execution, execution.world, execution.accumulate
        net = build_any(recipe.net, seed=recipe.seed)
        parts = self.world.size * self.accumulate
        if reason := why_not_shared(recipe, net, parts, ranks=self.world.size, synced=execution.sync_bn):
            how = f"{parts} ranks" if self.accumulate == 1 else f"{parts} parts (ranks times --accumulate)"
            raise InputError(reason.format(how=how))
        self.net: nn.Module = net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if isinstance(net, Network):
            if isinstance(net.spec.stem, WhiteningStem):
                net.whiten(self.feed.some(WHITENED))
            net.group_norm_statistics(recipe.bn_group).fuse(execution.fuses)
            if execution.sync_bn and (ranks := ranks_of_group(recipe, self.world.size)) > 1:
                synchronise(net, self.world, ranks)
        elif execution.checkpoint_activations:
            raise InputError(f"--checkpoint-activations is for Reslab's own networks, not for {recipe.net.name}")
        self.plan: Plan | None = None
        """what the memory budget made necessary, where that was decided here"""
        if execution.memory_budget is not None and execution.checkpoint_activations is None:
            self.plan = self.world.from_lead(plan(net, self.recipe, execution, execution.memory_budget))
            self.execution = execution = replace(execution, checkpoint_activations=self.plan.choice)
        if isinstance(net, Network):
            net.checkpoint_activations(execution.checkpoint_activations or False)
        self.keeps_memory = self.device.type == "cpu" and not execution.checkpoint_activations
        keep_freed_memory(self.keeps_memory)
        self.partial: Partial | None = None
        rates = None
        if recipe.transfer is not None:
            self.partial = Partial(self.net, recipe.transfer)
            rates = self.partial.rates()
        self.class_weights = balanced(self.feed.training_labels, recipe.net.num_classes) if recipe.balanced else None
        self.draws = any(isinstance(module, nn.Dropout | DropPath) for module in self.net.modules())
        self.optimizer = self._optimizer(rates)
        if self.device.type == "cpu" and (execution.checkpoint_activations or execution.memory_budget is not None):
            self.optimizer.reserve()
        overlaps = not self.world.alone and self.device.type == "cuda"
        self.shared: nn.Module = overlapping(self.net) if overlaps else self.net
        """the network, on GPUs with gradients averaged over the ranks"""
        self.forward = compiled(self.shared) if execution.compile else self.shared
        self.iteration = 0  # iterations done
        self.evaluating = False
        self.window = Window.empty(self.device)
        self.warm_up_window = Window.empty(self.device)
        self.warm_up = WarmUpState(active=recipe.warm_up is not None)
        self.plateau = PlateauState()
        self.average: dict[str, Tensor] = {}
        """the recipe's average of the weights and statistics, from its first update on"""
        self.best: dict[str, float] | None = None
        """the evaluation with the lowest error, of equal ones the lowest loss: iteration, error, loss"""
        self.newest: tuple[int, Result] | None = None
        """the last evaluation on the test set, and after how many iterations it was"""
        self.first_bad = torch.full((), recipe.iterations, dtype=torch.int64, device=self.device)
        self.done = torch.zeros((), dtype=torch.int64, device=self.device)  # ``iteration``, on the device
        self.graphed: Graphed | None = None
        # Another library's modules may draw random numbers, which a graph would take from elsewhere.
        known = isinstance(net, Network) and not self.draws and self.partial is None and not recipe.mixup
        if execution.captures and known and recipe.resolution is None and isinstance(self.feed, InMemory):
            self.graphed = Graphed(self._whole_step, self.device)
        self.total, self.recent = Clock(), Clock()
        self.seconds_before = 0.0  # of earlier processes of this run
        self.started = time.monotonic()

    def _optimizer(self, rates: Mapping[str, float] | None) -> Optimizer | MuonOptimizer | Packed:
        spec, packs = self.recipe.optimizer, self.execution.packs and self.recipe.precision == "bf16"
        if packs and isinstance(spec, Sgd) and rates is None and isinstance(self.net, Network):
            return Packed(self.net, spec)
        return make_optimizer(self.net, spec, rates)

    def settle(self) -> None:
        """Averages BN's running statistics over the ranks, each of which follows its own share of the images.

        The mean of exponential averages is the exponential average of the means, so it does not matter when.
        """
        own = {name: buffer for name, buffer in self.net.named_buffers() if buffer.is_floating_point()}
        self.world.average([*own.values(), *(self.average[name] for name in own if self.average)])

    @torch.no_grad()
    def _follow_weights(self) -> None:
        rule = self.recipe.average
        if rule is None or self.iteration % rule.every:
            return
        now = {name: tensor for name, tensor in self.net.state_dict().items() if tensor.is_floating_point()}
        if not self.average:
            self.average = {name: tensor.clone() for name, tensor in now.items()}
        else:
            own = list(self.average.values())
            torch._foreach_lerp_(own, [now[name] for name in self.average], 1 - rule.decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with the recipe's average in place of its weights, if there is one."""
        own = {name: tensor.clone() for name, tensor in self.net.state_dict().items()} if self.average else {}
        self.net.load_state_dict(self.average, strict=False)
        try:
            yield
        finally:
            self.net.load_state_dict(own, strict=False)

    def stay_averaged(self) -> None:
        """The recipe's average takes the place of the weights for good, if there is one."""
        self.net.load_state_dict(self.average, strict=False)
        self.average = {}

    def start_from(self, weights: Weights) -> None:
        """Weights instead of drawn ones; a new head stays as it was drawn."""
        self.net.load_state_dict(weights.tensors, strict=False)

    def account(self) -> Account:
        """What a step takes in memory."""
        return account(self.net, self.recipe, self.execution)

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, over all its processes."""
        return self.seconds_before + time.monotonic() - self.started

    def lr(self) -> float:
        """The learning rate of the coming iteration."""
        schedule = self.recipe.schedule
        rate = scheduled(self.recipe.optimizer.lr, schedule, self.iteration, self.recipe.iterations)
        if isinstance(schedule, Plateau):
            rate *= self.plateau.factor(schedule)
        if self.warm_up.active and self.recipe.warm_up is not None:
            rate = min(rate, self.recipe.warm_up.lr)
        return rate

    def step(self) -> None:
        """One iteration: batch, forward, backward, update."""
        with said_plainly(self.execution.compile):
            self._step()

    def training_mode(self) -> None:
        """Brings each module into the mode that it is trained in at this iteration; and which parts are trained."""
        if self.partial is None:
            self.net.train()
        else:
            self.partial.apply(self.iteration / max(self.recipe.iterations, 1))

    @property
    def gave_up(self) -> bool:
        """Whether the validation error has not fallen for as long as the recipe bears."""
        bears = self.recipe.early_stop
        if bears is None or self.best is None:
            return False
        return self.iteration - self.best["iteration"] >= bears * self.recipe.evaluate_every

    def _step(self) -> None:
        start = time.perf_counter()
        self.optimizer.set_lr(self.lr())
        if self.partial is not None:
            self.training_mode()
        if self.graphed is not None and isinstance(self.feed, InMemory):
            got_data = time.perf_counter()
            self.graphed(*self.feed.positions(self.iteration))
        else:
            images, labels = self.feed(self.iteration)
            if self.draws:
                # Dropout and stochastic depth take from PyTorch's generator: its state is a function of the iteration.
                key = () if self.world.alone else (self.world.rank,)
                torch.manual_seed(int(bits(torch.tensor(self.iteration), self.recipe.seed, _DROPOUT, *key)))
            got_data = time.perf_counter()
            self._learn(images, labels)
        self.iteration += 1
        self._follow_weights()
        seen = self.recipe.global_batch // self.world.size
        self.window.seen += seen
        self.warm_up_window.seen += seen
        for clock in (self.total, self.recent):
            clock.steps += time.perf_counter() - start
            clock.data += got_data - start
            clock.images += self.recipe.global_batch

    def _learn(self, images: Tensor, labels: Tensor) -> None:
        """Forward, backward, update, and what is counted: work of the device alone, which never waits for the host."""
        parts = list(zip(images.chunk(self.accumulate), labels.chunk(self.accumulate), strict=True))
        statistics = Averaged(self.net) if len(parts) > 1 else None
        if isinstance(self.optimizer, Packed):
            self.optimizer.cast()
        for number, (x, wanted) in enumerate(parts, 1):
            with self._gradients_stay(here=number < len(parts)):
                share = 1.0
                if self.recipe.mixup:
                    share = mixing(self.recipe.mixup, self.recipe.seed, self.iteration)
                    x = torch.lerp(x.flip(0), x, share)
                with autocast(self.device, self.recipe.precision):
                    logits = self.forward(x)
                logits = logits.float()
                loss = self._loss(logits, wanted)
                if share < 1:
                    loss = share * loss + (1 - share) * self._loss(logits, wanted.flip(0))
                (loss if len(parts) == 1 else loss / len(parts)).backward()
            if statistics is not None:
                statistics.take(last=number == len(parts))
            bad = torch.where(loss.detach().isfinite(), self.recipe.iterations, self.done)
            self.first_bad.copy_(torch.minimum(self.first_bad, bad))
            self.window.add(loss, logits, wanted)
            if self.recipe.warm_up is not None:
                self.warm_up_window.add(loss, logits, wanted)
        if self.shared is self.net:
            self.world.average([p.grad for p in self.net.parameters() if p.grad is not None])
        self.optimizer.step()
        self.done.add_(1)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(logits, labels, weight=self.class_weights, label_smoothing=smoothing)

    def _gradients_stay(self, *, here: bool) -> AbstractContextManager[None]:
        """Whether gradients of a part wait for those of the next before they are averaged over the ranks."""
        if here and self.shared is not self.net:
            return self.shared.no_sync()  # type: ignore[no-any-return,operator]
        return nullcontext()

    def _whole_step(self, index: Tensor, epoch: Tensor) -> None:
        assert isinstance(self.feed, InMemory)
        self._learn(*self.feed.batches.at(index, epoch))

    def look(self) -> None:
        """Checks the training error: stops at a loss that is not finite, and ends the warm-up.

        Comes before each checkpoint, so that a good one is never replaced by one that is not.
        """
        start = time.perf_counter()
        rest(self.device)
        first_bad = int(self.world.least(self.first_bad.clone()))  # waits for the device
        for clock in (self.total, self.recent):
            clock.steps += time.perf_counter() - start
        if first_bad < self.recipe.iterations:
            raise NonFiniteLoss(
                f"the loss is not finite at iteration {first_bad + 1} with learning rate "
                f"{self.optimizer.lr:g}; try a lower rate (--set optimizer.lr=...), a warm-up or --precision fp32"
            )
        rule = self.recipe.warm_up
        if rule is not None and self.warm_up.active and self.iteration % rule.window == 0:
            window = self.warm_up_window.over(self.world)
            self.warm_up.look(rule, self.iteration, int(window.wrong), window.seen)
            self.warm_up_window.clear()

    def weights(self) -> dict[str, Tensor]:
        """The network's state, on the host."""
        return {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}

    def header(self) -> dict[str, Any]:
        """The header of the weights: network, preprocessing, classes."""
        return header_of(self.recipe.net, self.preprocessing, self.classes)

    def gathered_damage(self) -> dict[str, list[tuple[int, str]]]:
        """Images of each split that no rank could decode, and why; from now on each rank counts those of all."""
        for found in self.world.gathered({name: list(known.items()) for name, known in self.feed.damaged.items()}):
            self._know_damage(found)
        return {name: sorted(known.items()) for name, known in self.feed.damaged.items()}

    def _know_damage(self, found: Mapping[str, Sequence[tuple[int, str]]]) -> None:
        for name, known in self.feed.damaged.items():
            known.update({int(index): why for index, why in found.get(name, [])})

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a resumed run needs to equal an uninterrupted one."""
        tensors = {f"model.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"momentum.{k}": v for k, v in self.optimizer.momentum().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        windows = {"window": self.window.over(self.world), "warm_up_window": self.warm_up_window.over(self.world)}
        for name, window in windows.items():
            tensors |= {f"{name}.loss": window.loss, f"{name}.wrong": window.wrong}
        meta = {
            **self.header(),
            "lr": self.optimizer.lr,
            "seen": {name: window.seen for name, window in windows.items()},
            "warm_up": vars(self.warm_up).copy(),
            "plateau": vars(self.plateau).copy(),
            "best": self.best,
            "damaged": self.gathered_damage(),
            "seconds": self.seconds,
        }
        return tensors, meta

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Continues from a checkpoint."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.net.load_state_dict(part("model."))
        self.optimizer.restore(meta["lr"], part("momentum."))
        self.average = {name: tensor.to(self.device) for name, tensor in part("average.").items()}
        for name, window in (("window", self.window), ("warm_up_window", self.warm_up_window)):
            if not self.world.leads:  # which keeps what all ranks had counted together
                window.clear()
                continue
            window.loss.copy_(tensors[f"{name}.loss"])
            window.wrong.copy_(tensors[f"{name}.wrong"])
            window.seen = meta["seen"][name]
        self.warm_up = WarmUpState(**meta["warm_up"])
        self.plateau = PlateauState(**meta.get("plateau", {}))
        self.best = meta["best"]
        self._know_damage(meta.get("damaged", {}))
        self.seconds_before = meta.get("seconds", 0.0)
        self.iteration = meta["iteration"]
        self.done.fill_(self.iteration)
