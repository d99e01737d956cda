"""The cost of a network, however counted: parameters, multiply-adds, activations."""

from dataclasses import dataclass

from reslab.nets.spec import Size


@dataclass(frozen=True)
class Cost:
    """Cost of one part of a network for one image."""

    name: str
    layers: int
    out_channels: int
    out_size: Size
    params: int
    macs: int
    activations: int
    """Numbers that its weighted layers put out (Radosavovic 2020, section 3)."""

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-add."""
        return 2 * self.macs


@dataclass(frozen=True)
class NetCost:
    """Cost of a network and of its parts, stem to head, and of each block by name (``layer1.0``)."""

    parts: tuple[Cost, ...]
    blocks: tuple[Cost, ...]

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(part.params for part in self.parts)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(part.macs for part in self.parts)

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-add."""
        return 2 * self.macs

    @property
    def activations(self) -> int:
        """Numbers that the weighted layers put out for one image."""
        return sum(part.activations for part in self.parts)
