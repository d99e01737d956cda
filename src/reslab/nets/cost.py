"""Counts a network's parameters, multiply-adds and activations from its specification.

The papers count a multiply-add as one operation (MAC); FLOPs are twice that. As in the papers, only
convolutions and fully connected layers count; BN, activations, pooling and additions do not.
"""

from reslab.nets.costs import Cost, NetCost
from reslab.nets.spec import (
    WEIGHTED,
    AnyNet,
    Block,
    Conv,
    Conv1x1,
    Dense,
    DenseStem,
    ExclusiveGate,
    MaxPool,
    NetSpec,
    Projection,
    ShortcutGate,
    Size,
    WhiteningStem,
    branch_layers,
    layer_size,
    shortcut_size,
    stem_size,
)

__all__ = ["Cost", "NetCost", "cost", "cost_any"]


class _Counter:
    """Follows an image through a network and adds up."""

    def __init__(self, spec: NetSpec, size: Size) -> None:
        self.normed = spec.norm is not None
        self.per_channel = 0 if spec.norm is None else 2 if spec.norm.scale else 1
        self.width, self.size = spec.in_channels, size
        self.start()

    def start(self) -> None:
        """A new part."""
        self.params = self.macs = self.activations = self.layers = 0

    def part(self, name: str) -> Cost:
        """The counts since the start of the part."""
        return Cost(name, self.layers, self.width, self.size, self.params, self.macs, self.activations)

    def norm(self, width: int) -> None:
        """The scale, where it is learned, and shift of a BN."""
        self.params += self.per_channel * width

    def weigh(self, before: int, after: int, kernel: int, groups: int, size: Size, *, bias: bool) -> None:
        """A layer's weights, used once at each position of its output."""
        weights = before // groups * after * kernel * kernel
        self.params += weights + (after if bias else 0)
        self.macs += weights * size[0] * size[1]
        self.activations += after * size[0] * size[1]

    def conv(self, conv: Conv) -> None:
        """A convolution on the main path."""
        size = shortcut_size(self.size, conv.stride)
        self.weigh(self.width, conv.width, conv.kernel, conv.groups, size, bias=not self.normed)
        self.size = layer_size(self.size, conv)
        self.width = conv.width
        self.layers += 1

    def dense(self, width: int) -> None:
        """A fully connected layer on the main path."""
        self.weigh(self.width, width, 1, 1, (1, 1), bias=not self.normed)
        self.width = width
        self.layers += 1


def _stem(counter: _Counter, spec: NetSpec) -> None:
    stem = spec.stem
    if isinstance(stem, DenseStem):
        counter.size = (1, 1)
        counter.dense(stem.width)
    elif isinstance(stem, WhiteningStem):
        counter.size = stem_size(counter.size, stem)
        counter.weigh(counter.width, stem.width, stem.kernel, 1, counter.size, bias=True)
        counter.params = stem.width  # its filters are not trained
        counter.width, counter.layers = stem.width, 1
        return
    else:
        for i, width in enumerate((*stem.before, stem.width)):
            counter.conv(Conv(width=width, kernel=stem.kernel, stride=stem.stride if i == 0 else 1))
            if i < len(stem.before):
                counter.norm(width)
    if stem.norm:
        counter.norm(stem.width)
    if not isinstance(stem, DenseStem) and stem.pool:
        counter.size = shortcut_size(counter.size, 2)  # 3x3 with a pixel of padding rounds up too


def _block(counter: _Counter, block: Block) -> None:
    entering, entering_size = counter.width, counter.size
    for layer in branch_layers(block):
        if isinstance(layer, MaxPool):
            counter.size = layer_size(counter.size, layer)
        if not isinstance(layer, WEIGHTED):
            continue
        before = counter.width
        if isinstance(layer, Dense):
            counter.dense(layer.width)
        else:
            counter.conv(layer)
        counter.norm(before if block.order == "full-preactivation" else counter.width)
    leaving_size = shortcut_size(entering_size, block.stride)
    match block.shortcut:
        case Projection(norm=normed):
            counter.weigh(entering, block.width, 1, 1, leaving_size, bias=not counter.normed)
            if normed:
                counter.norm(block.width)
        case Conv1x1():
            counter.weigh(entering, block.width, 1, 1, entering_size, bias=True)
        case ExclusiveGate(kernel=kernel) | ShortcutGate(kernel=kernel):
            counter.weigh(entering, entering, kernel, 1, entering_size, bias=True)


def cost(spec: NetSpec, size: Size | None = None) -> NetCost:
    """Counts a network, for images of ``size`` (height, width) in pixels; the specification's own by default."""
    counter = _Counter(spec, size or spec.size)
    _stem(counter, spec)
    parts, blocks = [counter.part("stem")], []
    for number, stage in enumerate(spec.stages, 1):
        whole = [0, 0, 0, 0]
        for index, block in enumerate(stage):
            counter.start()
            _block(counter, block)
            blocks.append(one := counter.part(f"layer{number}.{index}"))
            for i, value in enumerate((one.layers, one.params, one.macs, one.activations)):
                whole[i] += value
        layers, params, macs, activations = whole
        parts.append(Cost(f"layer{number}", layers, counter.width, counter.size, params, macs, activations))
    counter.start()
    if spec.final == "norm-activation":
        counter.norm(counter.width)
    counter.size = (1, 1)
    counter.weigh(counter.width, spec.num_classes, 1, 1, counter.size, bias=True)
    counter.width, counter.layers = spec.num_classes, 1
    parts.append(counter.part("head"))
    return NetCost(tuple(parts), tuple(blocks))


def cost_any(spec: AnyNet, size: Size | None = None) -> NetCost:
    """Like `cost`, but also for networks of other libraries, which are built and run on the meta device."""
    if isinstance(spec, NetSpec):
        return cost(spec, size)
    from reslab.nets.reference import reference_cost

    return reference_cost(spec, size)
