"""Backbones of detectors: He et al. 2015, Tables 7 and 8, VGG-16 against ResNet-101 under Faster R-CNN.

reslab detect study VOC --nets vgg16 resnet101 --from torchvision:vgg16 torchvision:resnet101 --iterations 80000

Beside the ledger, whose studies are of classifiers; decided by its rules: pairs of seeds, looked at when there are
3, 5, 8 and 12, at 1 % each (`reslab.studies.sequential`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reslab import published
from reslab.report.summary import Judgement
from reslab.studies.design import Below
from reslab.studies.verdict import Difference, levels, verdict_of

QUESTION = "Do the features of one network make a better detector than those of another, all else being equal?"
PAPER = "He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Tables 7 and 8 (VGG-16 and ResNet-101, Faster R-CNN)"
PAIR = ("vgg16", "resnet101")
"""The paper's networks; the first is what the others are compared with."""
METRIC = "mAP"
RULE = (
    "Differences of mean average precision (overlap 0.5, 11 points, the test pictures after the last iteration) are "
    "taken seed by seed, between trainings with the same order and mirroring of the pictures. They are looked at when "
    "3, 5, 8 and 12 seeds are there, each time by one-sided t-tests at 1 %: that the first network is not worse than "
    "the other, and, where the paper has both, that it is worse by more than half of what it is there. A training "
    "whose loss is not finite counts as 0."
)
CAVEAT = (
    "The paper's figures are of PASCAL VOC 2007, with weights from ImageNet and four steps of alternating training; "
    "what is found on other pictures is of these alone."
)


def published_map(net: str) -> float | None:
    """The paper's mean average precision on VOC 07, in per cent, of a network that it has."""
    found: Any = published.load("he2015")["detection"]["rows"]["voc07_test"].get(net)
    return None if found is None else float(found["ap50"])


@dataclass(frozen=True)
class Compared:
    """A network against the first."""

    net: str
    first: str
    gain: Difference
    """its mean average precision minus the first's, seed by seed, in points"""
    in_paper: float | None
    speaks_for: float
    """p-value of it not being better"""
    against: float
    verdict: Judgement
    """on "it makes the better detector" """

    def words(self) -> str:
        """One line for people."""
        paper = "" if self.in_paper is None else f", in the paper {self.in_paper:+.1f}"
        return f"{self.net} is better than {self.first}: {self.verdict}; {METRIC} {self.gain}{paper}"


def compared(found: Mapping[str, Mapping[int, float]], nets: Sequence[str]) -> tuple[Compared, ...]:
    """Each of the networks with the first of them.

    Args:
        found: mean average precision in per cent, by network and seed.
        nets: two or more of them.
    """
    first, *others = nets
    made = []
    for net in others:
        seeds = sorted(found[first].keys() & found[net].keys())
        if not seeds:
            continue
        papers = published_map(first), published_map(net)
        in_paper = None if papers[0] is None or papers[1] is None else papers[1] - papers[0]
        # `Below` is of errors: what is lacking to 100 % is lower where the average precision is higher.
        test = Below(net, first, METRIC, published=max(0.0, in_paper or 0.0))
        behind = [found[first][seed] - found[net][seed] for seed in seeds]
        speaks_for, against = levels(test, behind)
        gain = Difference.of([-each for each in behind])
        made.append(Compared(net, first, gain, in_paper, speaks_for, against, verdict_of(speaks_for, against)))
    return tuple(made)
