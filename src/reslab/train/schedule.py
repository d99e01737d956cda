"""Learning rates and resolutions: pure functions of the iteration, and the two rules that look at the error."""

from dataclasses import dataclass

from reslab.train.recipe import Plateau, Ramp, Resolution, Schedule, WarmUp


def scheduled(base: float, schedule: Schedule, iteration: int, length: int) -> float:
    """The rate for an iteration, counted from 0, of a training of ``length`` iterations.

    Steps: the base, times the factor for each drop that was reached. The paper's 64k iterations (He 2015, section
    4.2): 0.1 up to 32k, 0.01 up to 48k, then 0.001. Ramp: the base is the rate at the peak. Plateau: the base; what
    has dropped is in the run's `PlateauState`.
    """
    if isinstance(schedule, Plateau):
        return base
    if isinstance(schedule, Ramp):
        progress = iteration / length
        if progress < schedule.peak:
            return base * (schedule.start + (1 - schedule.start) * progress / schedule.peak)
        return base * (1 + (schedule.end - 1) * (progress - schedule.peak) / (1 - schedule.peak))
    # Divided rather than multiplied, so that 0.1 dropped by 0.1 is 0.01 and not 0.010000000000000002.
    return base / (1 / schedule.factor) ** sum(iteration >= drop for drop in schedule.drops)


def side(rule: Resolution, iteration: int, length: int) -> int:
    """Pixels of a training image's side at an iteration, counted from 0, of a training of ``length`` iterations."""
    first, last = rule.ramp
    progress = iteration / length
    if progress >= last:
        return rule.end
    if progress <= first:
        return rule.start
    straight = rule.start + (rule.end - rule.start) * (progress - first) / (last - first)
    return min(rule.end, max(rule.start, round(straight / rule.step) * rule.step))


@dataclass
class PlateauState:
    """How often the rate has dropped, and for how long the error has not. Part of a checkpoint."""

    best: float | None = None
    """the lowest error so far, in per cent"""
    since: int = 0
    """evaluations since it was reached"""
    drops: int = 0
    wrong: int = 0
    """training images that were classified wrongly since the last evaluation, of ``seen``"""
    seen: int = 0

    def train(self, wrong: int, seen: int) -> None:
        """Counts what was trained on."""
        self.wrong, self.seen = self.wrong + wrong, self.seen + seen

    def training_error(self) -> float:
        """Training error in per cent since the last call."""
        error = 100 * self.wrong / max(self.seen, 1)
        self.wrong = self.seen = 0
        return error

    def look(self, rule: Plateau, error: float) -> None:
        """Takes notice of the error at an evaluation."""
        if self.best is None or error < self.best * (1 - rule.threshold):
            self.best, self.since = error, 0
            return
        self.since += 1
        if self.since >= rule.patience and self.drops < rule.drops:
            self.drops, self.since = self.drops + 1, 0

    def factor(self, rule: Plateau) -> float:
        """The factor of the base learning rate."""
        return 1 / (1 / rule.factor) ** self.drops


@dataclass
class WarmUpState:
    """Whether the warm-up is still on. Part of a checkpoint."""

    active: bool
    ended_at: int | None = None

    def look(self, rule: WarmUp, iteration: int, wrong: int, seen: int) -> None:
        """Ends the warm-up if the training error of the window that ends before ``iteration`` is low enough."""
        if self.active and seen and 100 * wrong / seen < rule.until_error:
            self.active, self.ended_at = False, iteration
