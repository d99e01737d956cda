"""Learning rates: pure functions of the iteration, and the one rule that looks at the error."""

from dataclasses import dataclass

from reslab.train.recipe import Ramp, Schedule, WarmUp


def scheduled(base: float, schedule: Schedule, iteration: int, length: int) -> float:
    """The rate for an iteration, counted from 0, of a training of ``length`` iterations.

    Steps: the base, times the factor for each drop that was reached. The paper's 64k iterations (He 2015, section
    4.2): 0.1 up to 32k, 0.01 up to 48k, then 0.001. Ramp: the base is the rate at the peak.
    """
    if isinstance(schedule, Ramp):
        progress = iteration / length
        if progress < schedule.peak:
            return base * (schedule.start + (1 - schedule.start) * progress / schedule.peak)
        return base * (1 + (schedule.end - 1) * (progress - schedule.peak) / (1 - schedule.peak))
    # Divided rather than multiplied, so that 0.1 dropped by 0.1 is 0.01 and not 0.010000000000000002.
    return base / (1 / schedule.factor) ** sum(iteration >= drop for drop in schedule.drops)


@dataclass
class WarmUpState:
    """Whether the warm-up is still on. Part of a checkpoint."""

    active: bool
    ended_at: int | None = None

    def look(self, rule: WarmUp, iteration: int, wrong: int, seen: int) -> None:
        """Ends the warm-up if the training error of the window that ends before ``iteration`` is low enough."""
        if self.active and seen and 100 * wrong / seen < rule.until_error:
            self.active, self.ended_at = False, iteration
