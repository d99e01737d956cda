"""Defines a figure of the probes: what it measures, shows, costs and needs. The catalogue is `figures`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import nn

from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.probes.attribution import Attribution
from reslab.probes.chain import Passes, Tick, chain_of
from reslab.probes.coverage import Coverage
from reslab.probes.gates import Gates
from reslab.probes.gradients import Gradients
from reslab.probes.lesions import Deletions, Depth, Lesions, Permutations
from reslab.probes.paths import Paths
from reslab.probes.perturbations import Translation
from reslab.probes.result import Result
from reslab.probes.seam import Sample, own
from reslab.probes.shares import Shares

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Figure(Generic[R]):
    """One figure of the page."""

    group: str
    """the option of the command that asks for it"""
    title: str
    kind: type[R]
    measure: Callable[[nn.Module, Sample, Tick], R]
    draw: Callable[[Any, Any], None]
    say: Callable[[R], str]
    """the result in a sentence"""
    read: tuple[str, str]
    """how to read it, in two lines"""
    paper: str
    """what was found there"""
    cite: str
    cost: Callable[[nn.Module], Passes]
    """what it costs of a network that has it, for each image"""
    images: int | None = None
    """takes at most so many of the sample; None: all"""
    alone: float | None = None
    """of networks of its own, whatever the weights: about how many seconds it takes"""
    of_weights: bool = True
    """whether it says something about the weights, so that it says nothing where they have learnt nothing"""

    def sample(self, sample: Sample) -> Sample:
        """The images that it looks at."""
        return sample if self.images is None else sample.some(self.images)

    def refused(self, net: nn.Module) -> str | None:
        """Why the network has no such figure; None where it has, as far as its structure tells."""
        try:
            self._needs(net)
        except InputError as reason:
            return str(reason)
        return None

    def _needs(self, net: nn.Module) -> None:
        judged = self.kind in (Lesions, Deletions, Depth, Permutations, Paths, Gradients, Attribution, Translation)
        if judged and self.alone is None and isinstance(net, Network) and not net.has_head:
            raise InputError(f"'{net.spec.name}' has no head here: its outputs are features, not classes")
        if self.kind in (Lesions, Deletions, Depth, Permutations):
            chain = chain_of(net)
            if not chain.deletable:
                raise InputError(f"'{chain.name}' has no block that can be deleted")
            slots = [link.slot for link in chain.links if link.slot is not None]
            if self.kind is Permutations and len(slots) == len(set(slots)):
                raise InputError(f"'{chain.name}' has no two blocks of one shape in a stage, so none can be swapped")
            return
        if self.alone is not None:
            return
        ours = own(net, f"the figure '{self.title}'")
        checks: dict[type[Result], tuple[bool, str]] = {
            Shares: (ours.spec.is_residual, "its blocks have no shortcut"),
            Paths: (ours.spec.is_residual, "its blocks have no shortcut"),
            Gates: (any(block.gate is not None for block in ours.blocks), "its blocks have no gates"),
            Coverage: (any(block.spec.stride > 1 for block in ours.blocks), "no block has a stride"),
            Attribution: (
                ours.spec.pool == "average" and ours.spec.stem.kind != "dense",
                "it does not end in average pooling",
            ),
            Translation: (ours.spec.stem.kind != "dense", "it takes vectors, not images"),
        }
        holds, why = checks.get(self.kind, (True, ""))
        if not holds:
            raise InputError(f"'{ours.spec.name}': {why}")
