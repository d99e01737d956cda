"""A forward pass kept block by block, so that a gradient can be sent back by ways of one's choice.

At each residual block the gradient can take the branch, the shortcut or both, everything else held as it was in the
forward pass: activations stay open or closed as they were. Over all ways the parts add up to the whole gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reslab.nets.blocks import Block
from reslab.nets.network import Network
from reslab.probes.seam import Sample, computing

Way = Literal["branch", "shortcut", "both"]


@dataclass
class _Terms:
    """The two terms of an addition, as the block made them and as the addition took them."""

    made: tuple[Tensor, Tensor]
    taken: tuple[Tensor, Tensor]


@dataclass
class Piece:
    """One block between two cuts of the graph: ``input`` is a leaf, ``output`` depends on it alone."""

    input: Tensor
    output: Tensor
    terms: _Terms | None

    @property
    def residual(self) -> bool:
        """Whether there are two ways."""
        return self.terms is not None

    def back(self, gradient: Tensor, way: Way = "both") -> Tensor:
        """The gradient at the block's input, of what takes that way; a plain block has one way."""
        if self.terms is None:
            return _pulled(self.output, self.input, gradient)
        at_terms = torch.autograd.grad(self.output, self.terms.taken, gradient, retain_graph=True)
        ways = {"branch": (0,), "shortcut": (1,), "both": (0, 1)}[way]
        parts = [_pulled(self.terms.made[i], self.input, at_terms[i]) for i in ways]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _pulled(output: Tensor, leaf: Tensor, gradient: Tensor) -> Tensor:
    """The gradient at the leaf; zero where the output does not depend on it."""
    if output is leaf:  # an identity shortcut
        return gradient
    if not output.requires_grad:  # a constant, as where a hook has replaced it
        return torch.zeros_like(leaf)
    (found,) = torch.autograd.grad(output, leaf, gradient, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if found is None else found


class Backward:
    """The pieces of a network for some images, inside `reslab.probes.seam.opened`.

    Args:
        net: the network.
        sample: the images; all at once.
        direction: (classes,) or (N, classes): what the gradient is of, as a linear function of the logits; None is
            the cross-entropy of each image by itself.
    """

    def __init__(self, net: Network, sample: Sample, direction: Tensor | None = None) -> None:
        self.image = sample.x.detach().requires_grad_()
        with torch.enable_grad(), computing(sample):
            entered = net.enter(self.image)
            self._enter = Piece(self.image, entered, None)
            self.pieces: list[Piece] = []
            y = entered
            for block in net.blocks:
                piece = _cut(block, y)
                self.pieces.append(piece)
                y = piece.output
            end = y.detach().requires_grad_()
            logits = net.leave(end)[1].float()
            if direction is None:
                of = torch.nn.functional.cross_entropy(logits, sample.labels, reduction="sum")
            else:
                of = (logits * direction).sum()
            (self.at_end,) = torch.autograd.grad(of, end)

    @property
    def residual(self) -> tuple[int, ...]:
        """The blocks with two ways, counted from 0."""
        return tuple(i for i, piece in enumerate(self.pieces) if piece.residual)

    def gradients(self, ways: Sequence[Way] | None = None) -> list[Tensor]:
        """The gradient at each block's input, and behind the last, when it takes these ways at the blocks."""
        found = [self.at_end]
        for piece, way in zip(reversed(self.pieces), reversed(ways or ["both"] * len(self.pieces)), strict=True):
            found.append(piece.back(found[-1], way))
        return found[::-1]

    def at_image(self, gradient: Tensor) -> Tensor:
        """The gradient at the image, from that at the first block's input."""
        return self._enter.back(gradient)

    def path(self, through: frozenset[int]) -> Tensor:
        """The gradient at the image by one path: through the branch at these blocks, else by the shortcut."""
        gradient = self.at_end
        for i in reversed(range(len(self.pieces))):
            gradient = self.pieces[i].back(gradient, "branch" if i in through else "shortcut")
        return self.at_image(gradient)


def _cut(block: Block, entering: Tensor) -> Piece:
    """Runs a block on a leaf of its own, with its addition cut off from what it adds."""
    leaf = entering.detach().requires_grad_()
    terms: list[_Terms] = []

    def cut(_add: torch.nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        branch, shortcut = (term.detach().requires_grad_() for term in inputs)
        terms.append(_Terms(inputs, (branch, shortcut)))
        return branch, shortcut

    handle = None if block.add is None else block.add.register_forward_pre_hook(cut)
    try:
        output = block(leaf)
    finally:
        if handle is not None:
            handle.remove()
    return Piece(leaf, output, terms[0] if terms else None)


def norms(gradient: Tensor) -> Tensor:
    """The Euclidean norm for each image (N,), in fp64."""
    found: Tensor = gradient.detach().flatten(1).double().norm(dim=1)
    return found.cpu()
