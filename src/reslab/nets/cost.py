"""What a network costs, counted from its specification: parameters, multiply-adds, activations.

The papers count a multiply-add as one operation (MAC); FLOPs are twice that. As in the papers, only
convolutions and fully connected layers count; BN, activations, pooling and additions do not.
"""

from dataclasses import dataclass

from reslab.nets.spec import NetSpec, Projection, branch_convs


@dataclass(frozen=True)
class Cost:
    """Cost of one part of a network for one image."""

    name: str
    layers: int
    out_channels: int
    out_size: tuple[int, int]
    params: int
    macs: int

    @property
    def flops(self) -> int:
        """Floating-point operations: two for each multiply-add."""
        return 2 * self.macs


@dataclass(frozen=True)
class NetCost:
    """Cost of a network and of its parts, stem to head."""

    parts: tuple[Cost, ...]

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


def _conv_out(size: tuple[int, int], kernel: int, stride: int) -> tuple[int, int]:
    padding = kernel // 2
    h, w = ((s + 2 * padding - kernel) // stride + 1 for s in size)
    return h, w


def _conv_bn(before: int, after: int, kernel: int, out: tuple[int, int]) -> tuple[int, int]:
    """Parameters and MACs of a convolution without bias and the BN behind it."""
    weights = before * after * kernel * kernel
    return weights + 2 * after, weights * out[0] * out[1]


def cost(spec: NetSpec, size: tuple[int, int] | None = None) -> NetCost:
    """Counts a network, for images of ``size`` (height, width) in pixels; the specification's own by default."""
    size = _conv_out(size or spec.size, spec.stem.kernel, spec.stem.stride)
    width = spec.stem.width
    params, macs = _conv_bn(spec.in_channels, width, spec.stem.kernel, size)
    parts = [Cost("stem", 1, width, size, params, macs)]
    for number, stage in enumerate(spec.stages, 1):
        params = macs = layers = 0
        for block in stage:
            entering, entering_size = width, size
            for conv in branch_convs(block):
                size = _conv_out(size, conv.kernel, conv.stride)
                p, m = _conv_bn(width, conv.width, conv.kernel, size)
                params, macs, layers, width = params + p, macs + m, layers + 1, conv.width
            if isinstance(block.shortcut, Projection):
                p, m = _conv_bn(entering, width, 1, _conv_out(entering_size, 1, block.stride))
                params, macs = params + p, macs + m
        parts.append(Cost(f"layer{number}", layers, width, size, params, macs))
    weights = width * spec.num_classes
    parts.append(Cost("head", 1, spec.num_classes, (1, 1), weights + spec.num_classes, weights))
    return NetCost(tuple(parts))
